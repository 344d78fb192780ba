// SPDX-License-Identifier: Apache-2.0
// One server a folder, found by its lock: the lock of another process, and its end.
#include "serve/running_server.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::serve {
namespace {

namespace fs = std::filesystem;

class RunningServerTest : public ::testing::Test {
  protected:
    RunningServerTest() {
        std::string pattern = (fs::temp_directory_path() / "etalon-running-XXXXXX").string();
        folder_ = ::mkdtemp(pattern.data());
        path_ = folder_ / "data" / "server.addresses";
    }
    ~RunningServerTest() override { fs::remove_all(folder_); }

    fs::path folder_;
    fs::path path_;
};

TEST_F(RunningServerTest, NobodyRuns) {
    EXPECT_FALSE(find_running_server(path_));
}

TEST_F(RunningServerTest, IsFoundByOthersUntilItsProcessEnds) {
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        RunningServer running(path_);
        running.announce({"http://127.0.0.1:1", "https://[::1]:2"});
        if (::write(ready[1], "x", 1) != 1) ::_exit(1);
        for (;;)
            ::pause();
    }
    char byte = 0;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    const auto found = find_running_server(path_);
    ASSERT_TRUE(found);
    EXPECT_EQ(found->pid, child);
    EXPECT_EQ(found->urls, (std::vector<std::string>{"http://127.0.0.1:1", "https://[::1]:2"}));
    try {
        const RunningServer second(path_);
        ADD_FAILURE() << "two servers with one folder";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::unavailable);
        EXPECT_NE(error.message().find(std::to_string(child)), std::string::npos);
    }
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    EXPECT_FALSE(find_running_server(path_)) << "the lock of a process that is dead";
    const RunningServer next(path_);
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST_F(RunningServerTest, AFileThatCannotBeMadeIsAnError) {
    EXPECT_THROW(RunningServer(fs::path("/proc/none/server.addresses")), Error);
}

}  // namespace
}  // namespace etalon::serve

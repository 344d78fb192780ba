// SPDX-License-Identifier: Apache-2.0
// Which server runs with a folder of data: one at most, found by the lock on a file there.
//   RunningServer running(running_server_path());        // etalon serve
//   running.announce({"http://127.0.0.1:8080"});
//   const auto found = find_running_server(running_server_path());   // etalon ps, chat, stop
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

namespace etalon::serve {

/// server.addresses in data_folder().
std::filesystem::path running_server_path();

/// Held by a server as long as it runs. The kernel gives the lock back however the process ends, so
/// there is no stale one, and names its owner, so no number in a file has to be believed.
class RunningServer {
  public:
    /// Errors: unavailable (another server has the folder; says which process), failure (the file
    /// cannot be made).
    explicit RunningServer(const std::filesystem::path& path);
    ~RunningServer();
    RunningServer(const RunningServer&) = delete;
    RunningServer& operator=(const RunningServer&) = delete;

    /// Says where it is reached; URLs without a path. Errors: failure.
    void announce(const std::vector<std::string>& urls);

  private:
    std::filesystem::path path_;
    int fd_ = -1;
};

struct FoundServer {
    pid_t pid = 0;
    std::vector<std::string> urls;  ///< empty until it listens
};
/// nullopt: no server has the folder. Errors: failure.
std::optional<FoundServer> find_running_server(const std::filesystem::path& path);

}  // namespace etalon::serve

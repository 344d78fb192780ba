// SPDX-License-Identifier: Apache-2.0
// Mapped files: content, moves, and each refusal with its own exit code.
#include "base/file.h"

#include <array>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <string>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace {

using etalon::Error;
using etalon::ExitCode;
using etalon::MappedFile;

/// A new file with this content under the tests' temporary folder.
std::filesystem::path write(const std::string& name, const std::string& content) {
    std::filesystem::path path = std::filesystem::path(testing::TempDir()) / ("etalon_" + name);
    std::ofstream(path, std::ios::binary) << content;
    return path;
}

/// The code of the Error that `action` throws; no throw is a failure of the test.
template <typename Action>
ExitCode code_of(const Action& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.code();
    }
    ADD_FAILURE() << "nothing was thrown";
    return ExitCode::ok;
}

std::string text_of(const MappedFile& file) {
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, shows_the_bytes_of_the_file) {
    const auto path = write("content", std::string("a\0b", 3));
    const MappedFile file(path);
    EXPECT_EQ(text_of(file), std::string("a\0b", 3));
    EXPECT_EQ(file.path(), path);
}

TEST(MappedFile, an_empty_file_is_an_empty_span) {
    EXPECT_TRUE(MappedFile(write("empty", "")).bytes().empty());
}

TEST(MappedFile, moves_without_a_copy) {
    MappedFile first(write("move", "content"));
    const auto* data = first.bytes().data();
    MappedFile second = std::move(first);
    EXPECT_EQ(second.bytes().data(), data);
    MappedFile third(write("other", "x"));
    third = std::move(second);
    EXPECT_EQ(text_of(third), "content");
}

TEST(MappedFile, dropped_pages_read_the_same_again) {
    const std::string content(100000, 'q');
    const MappedFile file(write("drop", content));
    EXPECT_EQ(text_of(file), content);
    file.drop(0, content.size());
    file.drop(5000, 20000);
    file.drop(content.size() + 1, 1);
    EXPECT_EQ(text_of(file), content);
}

TEST(MappedFile, refusals_have_their_own_codes) {
    const auto folder = std::filesystem::path(testing::TempDir());
    EXPECT_EQ(code_of([&] { MappedFile(folder / "etalon_no_such_file"); }), ExitCode::not_found);
    EXPECT_EQ(code_of([&] { MappedFile{folder}; }), ExitCode::invalid);
    EXPECT_EQ(code_of([&] { MappedFile("/dev/zero"); }), ExitCode::invalid);
}

TEST(MappedFile, a_pipe_without_a_writer_is_refused_and_not_waited_for) {
    const auto path = std::filesystem::path(testing::TempDir()) / "etalon_pipe";
    std::filesystem::remove(path);
    ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
    EXPECT_EQ(code_of([&] { MappedFile file(path); }), ExitCode::invalid);
    std::filesystem::remove(path);
}

TEST(ReadFile, reads_up_to_its_limit) {
    const auto path = write("limit", "12345");
    EXPECT_EQ(etalon::read_file(path, 5), "12345");
    EXPECT_EQ(code_of([&] { etalon::read_file(path, 4); }), ExitCode::invalid);
}

TEST(FileIdentity, every_write_makes_another_one_and_reading_does_not) {
    const auto path = write("identity", "one");
    etalon::FileIdentity first;
    const auto take = [&](const std::filesystem::path& asked, const etalon::FileIdentity& found) {
        EXPECT_EQ(asked, path);
        first = found;
    };
    EXPECT_EQ(etalon::read_file(path, 10, take), "one");
    EXPECT_EQ(first.size, 3U);
    const auto same = [&](const std::filesystem::path&, const etalon::FileIdentity& found) {
        if (found != first) throw Error(ExitCode::refused, "changed");
    };
    EXPECT_EQ(etalon::read_file(path, 10, same), "one");
    // Longer than the clock of any kernel ticks.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    write("identity", "two");
    EXPECT_EQ(code_of([&] { etalon::read_file(path, 10, same); }), ExitCode::refused);
}

TEST(WriteNewFile, never_overwrites) {
    const auto path = write("new", "old");
    EXPECT_EQ(code_of([&] { etalon::write_new_file(path, "new", 0600); }), ExitCode::failure);
    EXPECT_EQ(etalon::read_file(path, 10), "old");
    std::filesystem::remove(path);
    etalon::write_new_file(path, "new", 0400);
    EXPECT_EQ(etalon::read_file(path, 10), "new");
    EXPECT_EQ(std::filesystem::status(path).permissions(), std::filesystem::perms::owner_read);
    std::filesystem::remove(path);
    EXPECT_EQ(code_of([&] { etalon::write_new_file(path / "below", "", 0600); }),
              ExitCode::failure);
}

TEST(WriteAll, takes_what_a_pipe_takes_in_pieces) {
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe(ends.data()), 0);
    const std::string sent(1 << 20, 'x');  // more than a pipe holds
    std::string got;
    std::thread reader([&] {
        std::array<char, 4096> piece{};
        for (ssize_t n = 0; (n = ::read(ends[0], piece.data(), piece.size())) > 0;)
            got.append(piece.data(), static_cast<std::size_t>(n));
    });
    EXPECT_TRUE(etalon::write_all(ends[1], sent));
    ::close(ends[1]);
    reader.join();
    ::close(ends[0]);
    EXPECT_TRUE(got == sent);
    EXPECT_FALSE(etalon::write_all(ends[1], "closed"));
}

}  // namespace

// SPDX-License-Identifier: Apache-2.0
// The lock of the server that has a folder of data.
#include "serve/running_server.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"
#include "serve/config.h"

namespace etalon::serve {

namespace {

constexpr std::size_t kAddressesBytesMax = 65536;

[[noreturn]] void fail(const char* what, const std::filesystem::path& path) {
    throw Error(ExitCode::failure, fmt::format("cannot {} {}: {}", what, printable(path.string()),
                                               std::strerror(errno)));
}

/// A lock on the whole file. Of a process, not of a descriptor: only such a lock names its owner.
flock whole_file() {
    flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    return lock;
}

/// The process that has the lock; 0: none.
pid_t owner_of(int fd, const std::filesystem::path& path) {
    flock lock = whole_file();
    if (::fcntl(fd, F_GETLK, &lock) != 0) fail("ask for the lock of", path);
    return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

}  // namespace

std::filesystem::path running_server_path() {
    return data_folder() / "server.addresses";
}

RunningServer::RunningServer(const std::filesystem::path& path) : path_(path) {
    std::error_code ignored;  // opening the file says what is wrong
    std::filesystem::create_directories(path.parent_path(), ignored);
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, S_IRUSR | S_IWUSR);
    if (fd_ < 0) fail("open", path);
    flock lock = whole_file();
    if (::fcntl(fd_, F_SETLK, &lock) == 0) return;
    const pid_t owner = owner_of(fd_, path);
    ::close(fd_);
    throw Error(ExitCode::unavailable,
                fmt::format("a server runs with this folder of data already: process {} ({})",
                            owner, printable(path.parent_path().string())),
                "etalon stop ends it; XDG_DATA_HOME names another folder");
}

RunningServer::~RunningServer() {
    ::close(fd_);
}

void RunningServer::announce(const std::vector<std::string>& urls) {
    std::string text;
    for (const std::string& url : urls)
        text += url + "\n";
    const bool good = ::ftruncate(fd_, 0) == 0 && ::pwrite(fd_, text.data(), text.size(), 0) ==
                                                      static_cast<ssize_t>(text.size());
    if (!good) fail("write", path_);
}

std::optional<FoundServer> find_running_server(const std::filesystem::path& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && errno == ENOENT) return std::nullopt;
    if (fd < 0) fail("open", path);
    FoundServer found;
    try {
        found.pid = owner_of(fd, path);
    } catch (...) {
        ::close(fd);
        throw;
    }
    ::close(fd);
    if (found.pid == 0) return std::nullopt;
    const std::string text = read_file(path, kAddressesBytesMax);
    for (std::size_t start = 0; start < text.size();) {
        const std::size_t end = std::min(text.find('\n', start), text.size());
        found.urls.push_back(text.substr(start, end - start));
        start = end + 1;
    }
    return found;
}

}  // namespace etalon::serve

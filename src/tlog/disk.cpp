// SPDX-License-Identifier: Apache-2.0
// System calls, with the reason of each that fails.
#include "tlog/disk.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace etalon::tlog {

namespace {

constexpr mode_t kFileMode = S_IRUSR | S_IWUSR;
constexpr mode_t kFolderMode = S_IRWXU;
constexpr const char* kLockName = "lock";

[[noreturn]] void fail(const char* doing, const std::filesystem::path& path) {
    const std::string reason = std::strerror(errno);
    throw Error(ExitCode::failure,
                fmt::format("cannot {} {}: {}", doing, printable(path.string()), reason));
}

}  // namespace

/// A descriptor for one call.
class FolderDisk::File {
  public:
    File(const std::filesystem::path& path, int flags) : path_(path) {
        fd_ = ::open(path.c_str(), flags | O_CLOEXEC | O_NOFOLLOW, kFileMode);
        if (fd_ < 0) fail("open", path_);
    }
    ~File() { ::close(fd_); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;

    void write(std::string_view bytes) const {
        if (!write_all(fd_, bytes)) fail("write", path_);
    }
    void sync() const {
        if (::fdatasync(fd_) != 0) fail("sync", path_);
    }

  private:
    std::filesystem::path path_;
    int fd_;
};

FolderDisk::FolderDisk(std::filesystem::path folder) : folder_(std::move(folder)) {
    make_folder("");
    const std::filesystem::path path = folder_ / kLockName;
    lock_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, kFileMode);
    if (lock_ < 0) fail("open", path);
    if (::flock(lock_, LOCK_EX | LOCK_NB) == 0) return;
    ::close(lock_);
    throw Error(ExitCode::unavailable,
                fmt::format("another process writes the log ({})", printable(folder_.string())));
}

FolderDisk::~FolderDisk() {
    ::close(lock_);
}

bool FolderDisk::exists(const std::string& path) {
    std::error_code error;
    return std::filesystem::exists(folder_ / path, error);
}

std::optional<std::string> FolderDisk::read(const std::string& path, std::size_t bytes_max) {
    const std::filesystem::path full = folder_ / path;
    const int fd = ::open(full.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR)) return std::nullopt;
    if (fd < 0) fail("open", full);
    std::string bytes;
    std::string piece(std::min<std::size_t>(bytes_max + 1, 1 << 16), '\0');
    ssize_t n = 0;
    while (bytes.size() <= bytes_max && (n = ::read(fd, piece.data(), piece.size())) > 0)
        bytes.append(piece, 0, static_cast<std::size_t>(n));
    const int reason = errno;
    ::close(fd);
    errno = reason;
    if (n < 0) fail("read", full);
    if (bytes.size() > bytes_max) {
        throw Error(ExitCode::invalid,
                    fmt::format("{} has more than {} bytes", printable(full.string()), bytes_max));
    }
    return bytes;
}

std::vector<std::string> FolderDisk::list(const std::string& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / folder, error)) {
        if (entry.is_regular_file(error)) names.push_back(entry.path().filename().string());
    }
    std::sort(names.begin(), names.end());
    return names;
}

void FolderDisk::make_folder(const std::string& folder) {
    const std::filesystem::path full = folder.empty() ? folder_ : folder_ / folder;
    std::filesystem::path made;
    for (const std::filesystem::path& part : full) {
        const std::filesystem::path above = made;
        made /= part;
        if (part.empty() || part == "/" || ::mkdir(made.c_str(), kFolderMode) != 0) {
            if (!part.empty() && part != "/" && errno != EEXIST) fail("make folder", made);
            continue;
        }
        const File parent(above.empty() ? "." : above, O_RDONLY | O_DIRECTORY);
        parent.sync();
    }
}

void FolderDisk::put(const std::string& path, int flags, std::string_view bytes) {
    const File file(folder_ / path, O_WRONLY | O_CREAT | flags);
    file.write(bytes);
}

void FolderDisk::write(const std::string& path, std::string_view bytes) {
    put(path, O_TRUNC, bytes);
}

void FolderDisk::append(const std::string& path, std::string_view bytes) {
    put(path, O_APPEND, bytes);
}

void FolderDisk::sync(const std::string& path) {
    const File file(folder_ / path, O_WRONLY);
    file.sync();
}

void FolderDisk::sync_folder(const std::string& folder) {
    const File file(folder_ / folder, O_RDONLY | O_DIRECTORY);
    file.sync();
}

void FolderDisk::sync_all() {
    if (::syncfs(lock_) != 0) fail("sync", folder_);
}

void FolderDisk::rename(const std::string& from, const std::string& to) {
    if (::rename((folder_ / from).c_str(), (folder_ / to).c_str()) != 0) {
        fail("rename", folder_ / from);
    }
}

void FolderDisk::remove(const std::string& path) {
    if (::unlink((folder_ / path).c_str()) != 0 && errno != ENOENT) fail("remove", folder_ / path);
}

void FolderDisk::remove_folder(const std::string& folder) {
    const std::filesystem::path inside = folder;
    for (const std::string& name : list(folder))
        remove((inside / name).string());
    if (::rmdir((folder_ / folder).c_str()) != 0 && errno != ENOENT) {
        fail("remove", folder_ / folder);
    }
}

}  // namespace etalon::tlog

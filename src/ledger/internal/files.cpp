// SPDX-License-Identifier: Apache-2.0
// Small files that must be safe and private: keys, sealed payloads.
#include "ledger/internal/files.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <set>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/file.h"

namespace etalon::ledger {

namespace {

constexpr mode_t kPrivateFile = 0600;
constexpr mode_t kPrivateFolder = 0700;
constexpr mode_t kOthers = 0077;
/// Each fsync makes the disk write its cache out; above so many files one syncfs is faster, though
/// it writes out what other programs have written too.
constexpr std::size_t kSyncedAloneMax = 2;

[[noreturn]] void fail(const char* doing, const std::filesystem::path& path, int reason) {
    throw Error(ExitCode::failure, fmt::format("cannot {} {}: {}", doing, printable(path.string()),
                                               std::strerror(reason)));
}

class Descriptor {
  public:
    Descriptor(const std::filesystem::path& path, int flags)
        : fd_(::open(path.c_str(), flags | O_CLOEXEC, kPrivateFile)) {}
    ~Descriptor() {
        if (fd_ >= 0) ::close(fd_);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    int get() const { return fd_; }

    void put(std::string_view bytes, const std::filesystem::path& path) const {
        if (!write_all(fd_, bytes)) fail("write", path, errno);
    }
    /// Content and size are on disk behind this.
    void sync(const std::filesystem::path& path) const {
        if (::fsync(fd_) != 0) fail("sync", path, errno);
    }

  private:
    int fd_;
};

}  // namespace

void make_private_folder(const std::filesystem::path& folder) {
    if (folder.empty() || std::filesystem::is_directory(folder)) return;
    make_private_folder(folder.parent_path());
    if (::mkdir(folder.c_str(), kPrivateFolder) != 0 && errno != EEXIST) {
        fail("make folder", folder, errno);
    }
    sync_folder(folder.parent_path());
}

void sync_folder(const std::filesystem::path& folder) {
    const std::filesystem::path path = folder.empty() ? "." : folder;
    const Descriptor descriptor(path, O_RDONLY | O_DIRECTORY);
    if (descriptor.get() < 0) fail("open folder", path, errno);
    if (::fsync(descriptor.get()) != 0) fail("sync folder", path, errno);
}

bool write_new_file(const std::filesystem::path& path, std::string_view bytes) {
    // A name stands for whole content or is not there: the bytes come under another name first.
    if (std::filesystem::exists(path)) return false;
    const std::filesystem::path draft = path.string() + ".new";
    {
        const Descriptor file(draft, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
        if (file.get() < 0) fail("create", draft, errno);
        file.put(bytes, draft);
        file.sync(draft);
    }
    const int linked = ::link(draft.c_str(), path.c_str());
    const int reason = errno;
    ::unlink(draft.c_str());
    if (linked != 0 && reason == EEXIST) return false;
    if (linked != 0) fail("name", path, reason);
    sync_folder(path.parent_path());
    return true;
}

void write_file(const std::filesystem::path& path, std::string_view bytes) {
    const Descriptor file(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW);
    if (file.get() < 0) fail("create", path, errno);
    file.put(bytes, path);
}

void sync_files(const std::vector<std::filesystem::path>& paths) {
    if (paths.empty()) return;
    if (paths.size() > kSyncedAloneMax) {
        const Descriptor folder(paths.front().parent_path(), O_RDONLY | O_DIRECTORY);
        if (folder.get() < 0) fail("open folder", paths.front().parent_path(), errno);
        if (::syncfs(folder.get()) != 0) fail("sync", paths.front().parent_path(), errno);
        return;
    }
    std::set<std::filesystem::path> folders;
    for (const std::filesystem::path& path : paths) {
        const Descriptor file(path, O_WRONLY | O_NOFOLLOW);
        if (file.get() < 0) fail("open", path, errno);
        file.sync(path);
        folders.insert(path.parent_path());
    }
    for (const std::filesystem::path& folder : folders)
        sync_folder(folder);
}

std::string read_private_file(const std::filesystem::path& path, std::size_t bytes_max) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 && (status.st_mode & kOthers) != 0) {
        throw Error(ExitCode::refused,
                    fmt::format("{} may be read by others", printable(path.string())),
                    "chmod 600, after finding out who has read it");
    }
    return read_file(path, bytes_max);
}

bool destroy_file(const std::filesystem::path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        if (errno == ENOENT) return false;
        fail("stat", path, errno);
    }
    if (S_ISREG(status.st_mode)) {
        const Descriptor file(path, O_WRONLY | O_NOFOLLOW);
        if (file.get() < 0 && errno == ENOENT) return false;  // another process was faster
        if (file.get() < 0) fail("open", path, errno);
        file.put(std::string(static_cast<std::size_t>(status.st_size), '\0'), path);
        file.sync(path);
    }
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) fail("remove", path, errno);
    sync_folder(path.parent_path());
    return true;
}

FolderLock::FolderLock(const std::filesystem::path& folder)
    : fd_(::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW,
                 kPrivateFile)) {
    if (fd_ < 0) fail("open lock of", folder, errno);
    while (::flock(fd_, LOCK_EX) != 0) {
        if (errno == EINTR) continue;
        const int reason = errno;
        ::close(fd_);
        fail("lock", folder, reason);
    }
}

FolderLock::~FolderLock() {
    ::close(fd_);  // which ends the lock
}

void require_own(const std::filesystem::path& folder) {
    struct stat status {};
    if (::stat(folder.c_str(), &status) != 0 || status.st_uid == ::geteuid()) return;
    throw Error(ExitCode::refused,
                fmt::format("{} belongs to another account", printable(folder.string())),
                "run the command as that account: sudo -u NAME");
}

}  // namespace etalon::ledger

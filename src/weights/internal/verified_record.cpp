// SPDX-License-Identifier: Apache-2.0
// The record of verified files.
#include "weights/internal/verified_record.h"

#include <cerrno>
#include <chrono>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/sha256.h"

namespace etalon::weights {

namespace {

const std::string kWhole = "file:";

std::string line_of(const FileIdentity& identity, const std::string& content) {
    return fmt::format("1 {} {} {} {} {} {}", identity.device, identity.inode, identity.size,
                       identity.change_seconds, identity.change_nanoseconds, content);
}

[[noreturn]] void refuse_record(const std::filesystem::path& path, const char* why) {
    throw Error(ExitCode::refused,
                fmt::format("record of verified files {}: {}", printable(path.string()), why),
                "remove it; the next start hashes the model again");
}

int open_record(const std::filesystem::path& path) {
    std::error_code error;
    std::filesystem::create_directories(path.parent_path(), error);
    constexpr mode_t kMine = S_IRUSR | S_IWUSR;
    const int fd = ::open(path.c_str(),
                          O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, kMine);
    if (fd < 0 && errno == ELOOP) refuse_record(path, "is a symbolic link");
    return fd;
}

/// Why the file may not be believed, or nullptr.
const char* distrust(const struct stat& status) {
    if (!S_ISREG(status.st_mode)) return "is no regular file";
    if (status.st_uid != ::geteuid()) return "belongs to another user";
    if ((status.st_mode & (S_IRWXG | S_IRWXO)) != 0) return "is open to others";
    return status.st_nlink == 1 ? nullptr : "has a second name";
}

std::string content_of(int fd, const std::filesystem::path& path, std::size_t size) {
    std::string text(size, '\0');
    std::size_t at = 0;
    while (at < size) {
        const ssize_t n = ::pread(fd, text.data() + at, size - at, static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            throw Error(
                ExitCode::failure,
                fmt::format("cannot read {}: {}", printable(path.string()), std::strerror(errno)));
        }
        if (n == 0) break;
        at += static_cast<std::size_t>(n);
    }
    text.resize(at);
    return text;
}

}  // namespace

VerifiedRecord::VerifiedRecord(const std::filesystem::path& path) {
    if (path.empty()) return;
    fd_ = open_record(path);
    if (fd_ < 0) return;
    try {
        struct stat status {};
        if (::fstat(fd_, &status) != 0) refuse_record(path, std::strerror(errno));
        if (const char* why = distrust(status)) refuse_record(path, why);
        auto size = static_cast<std::size_t>(status.st_size);
        if (size > kRecordBytesMax) {
            if (::ftruncate(fd_, 0) != 0) refuse_record(path, std::strerror(errno));
            size = 0;
        }
        const std::string text = content_of(fd_, path, size);
        // A line without an end was cut off by a crash.
        for (std::size_t begin = 0, end = text.find('\n'); end != std::string::npos;
             begin = end + 1, end = text.find('\n', begin)) {
            lines_.insert(text.substr(begin, end - begin));
        }
    } catch (...) {
        close();
        throw;
    }
}

VerifiedRecord::~VerifiedRecord() {
    close();
}

VerifiedRecord::VerifiedRecord(VerifiedRecord&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), lines_(std::move(other.lines_)) {}

void VerifiedRecord::close() noexcept {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

bool VerifiedRecord::knows(const FileIdentity& identity, const std::string& content) const {
    return lines_.count(line_of(identity, content)) != 0;
}

std::string VerifiedRecord::whole_sha256(const FileIdentity& identity) const {
    const std::string prefix = line_of(identity, kWhole);
    const auto found = lines_.lower_bound(prefix);
    if (found == lines_.end() || found->compare(0, prefix.size(), prefix) != 0) return "";
    const std::string sha256 = found->substr(prefix.size());
    const bool is_digest = sha256.size() == 2 * sizeof(Sha256Digest) &&
                           sha256.find_first_not_of("0123456789abcdef") == std::string::npos;
    return is_digest ? sha256 : "";
}

void VerifiedRecord::learn_whole(const FileIdentity& identity, const std::string& sha256) {
    learn(identity, kWhole + sha256);
}

void VerifiedRecord::learn(const FileIdentity& identity, const std::string& content) {
    if (fd_ < 0 || identity.change_seconds > unix_time() - kSettledSeconds) return;
    const std::string line = line_of(identity, content);
    if (!lines_.insert(line).second) return;
    // One write in append mode: several processes may learn at once. The line end in front closes
    // a line that a crash has cut off.
    const std::string text = "\n" + line + "\n";
    (void)!::write(fd_, text.data(), text.size());
}

}  // namespace etalon::weights

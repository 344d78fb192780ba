// SPDX-License-Identifier: Apache-2.0
// Files: a read-only memory map, and a whole small file as a string.
#include "base/file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"

namespace etalon {

namespace {

/// Closes the descriptor at the end of its scope.
struct Descriptor {
    int fd;
    explicit Descriptor(int descriptor) : fd(descriptor) {}
    ~Descriptor() {
        if (fd >= 0) ::close(fd);
    }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
};

struct stat status_of(int fd, const std::filesystem::path& path) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) {
        throw Error(ExitCode::failure, fmt::format("cannot stat {}: {}", printable(path.string()),
                                                   std::strerror(errno)));
    }
    return status;
}

}  // namespace

FileIdentity identity_from(const struct stat& status) noexcept {
    return {static_cast<std::uint64_t>(status.st_dev), static_cast<std::uint64_t>(status.st_ino),
            static_cast<std::uint64_t>(status.st_size), status.st_ctim.tv_sec,
            status.st_ctim.tv_nsec};
}

FileIdentity identity_of(int fd, const std::filesystem::path& path) {
    return identity_from(status_of(fd, path));
}

MappedFile::MappedFile(const std::filesystem::path& path, const FileCheck& check) : path_(path) {
    // O_NONBLOCK: opening a pipe that nobody writes to would wait; it is refused below.
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    const std::string name = printable(path.string());
    if (file.fd < 0) {
        const ExitCode code = errno == ENOENT ? ExitCode::not_found : ExitCode::failure;
        throw Error(code, fmt::format("cannot open {}: {}", name, std::strerror(errno)));
    }
    const struct stat status = status_of(file.fd, path);
    if (!S_ISREG(status.st_mode)) {
        throw Error(ExitCode::invalid, fmt::format("{} is not a regular file", name));
    }
    if (check) check(path, identity_from(status));
    size_ = static_cast<std::size_t>(status.st_size);
    if (size_ == 0) return;
    void* address = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
    if (address == MAP_FAILED) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot map {}: {}", name, std::strerror(errno)));
    }
    data_ = static_cast<const std::byte*>(address);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

void MappedFile::drop(std::size_t offset, std::size_t size) const noexcept {
    if (offset >= size_) return;
    const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
    const std::size_t end = std::min(size_, offset + size) / page * page;
    const std::size_t begin = (offset + page - 1) / page * page;
    if (begin >= end) return;
    // Advice only: a failure changes nothing but the footprint.
    (void)::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

std::string read_file(const std::filesystem::path& path, std::size_t bytes_max,
                      const FileCheck& check) {
    const MappedFile file(path, check);
    const auto bytes = file.bytes();
    if (bytes.size() > bytes_max) {
        throw Error(ExitCode::invalid,
                    fmt::format("{} has {} bytes, at most {} are read", printable(path.string()),
                                bytes.size(), bytes_max));
    }
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

bool write_all(int fd, std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

void write_new_file(const std::filesystem::path& path, std::string_view text, unsigned mode) {
    const std::string name = printable(path.string());
    const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST) {
        throw Error(ExitCode::failure, fmt::format("{} exists already", name),
                    "choose another name, or remove it first");
    }
    if (fd < 0) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot write {}: {}", name, std::strerror(errno)));
    }
    const bool good = write_all(fd, text) && ::fsync(fd) == 0;
    const int error = errno;
    const bool closed = ::close(fd) == 0;
    if (good && closed) return;
    (void)::unlink(path.c_str());
    throw Error(ExitCode::failure, fmt::format("cannot write {}: {}", name, std::strerror(error)));
}

}  // namespace etalon

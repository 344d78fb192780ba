// SPDX-License-Identifier: Apache-2.0
// Files: a read-only memory map, and a whole small file as a string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

struct stat;

namespace etalon {

/// What tells one state of a file from another: every write and every change of owner or mode moves
/// the change time, which only the kernel sets.
struct FileIdentity {
    std::uint64_t device = 0;
    std::uint64_t inode = 0;
    std::uint64_t size = 0;  ///< bytes
    std::int64_t change_seconds = 0;
    std::int64_t change_nanoseconds = 0;

    bool operator==(const FileIdentity&) const = default;
};

/// Asked about a file that was just opened, before a byte of it is read; throws to refuse it.
using FileCheck = std::function<void(const std::filesystem::path&, const FileIdentity&)>;

FileIdentity identity_from(const struct stat& status) noexcept;
/// Of an open file; `path` stands in messages. Errors: failure (system call).
FileIdentity identity_of(int fd, const std::filesystem::path& path);

/// A file mapped read-only for as long as the object lives. Movable, not copyable.
/// Errors: not_found (no such file), invalid (not a regular file), failure (system call), those of
/// `check`.
class MappedFile {
  public:
    explicit MappedFile(const std::filesystem::path& path, const FileCheck& check = {});
    ~MappedFile();
    MappedFile(MappedFile&& other) noexcept;
    MappedFile& operator=(MappedFile&& other) noexcept;

    std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
    const std::filesystem::path& path() const noexcept { return path_; }

    /// Tells the kernel that [offset, offset + size) will not be read soon, so that a pass over a
    /// file larger than memory keeps a small footprint.
    void drop(std::size_t offset, std::size_t size) const noexcept;

  private:
    std::filesystem::path path_;
    const std::byte* data_ = nullptr;
    std::size_t size_ = 0;
};

/// The content of a file of at most `bytes_max` bytes; larger ones are refused (invalid).
std::string read_file(const std::filesystem::path& path, std::size_t bytes_max,
                      const FileCheck& check = {});

/// Writes all of `bytes`, whatever the system takes at once. False: errno says why.
bool write_all(int fd, std::string_view bytes) noexcept;

/// Creates `path` with the content `text`, on the disk when this returns, and the permission bits
/// `mode` (the process's mask holds). Errors: failure (something exists there already, or it cannot
/// be written; what was written is removed again).
void write_new_file(const std::filesystem::path& path, std::string_view text, unsigned mode);

}  // namespace etalon

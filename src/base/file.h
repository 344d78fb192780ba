// SPDX-License-Identifier: Apache-2.0
// Files: a read-only memory map, and a whole small file as a string.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>

namespace etalon {

/// A file mapped read-only for as long as the object lives. Movable, not copyable.
/// Errors: not_found (no such file), invalid (not a regular file), failure (system call).
class MappedFile {
  public:
    explicit MappedFile(const std::filesystem::path& path);
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
std::string read_file(const std::filesystem::path& path, std::size_t bytes_max);

}  // namespace etalon

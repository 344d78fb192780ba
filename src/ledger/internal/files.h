// SPDX-License-Identifier: Apache-2.0
// Small files that must be safe and private: keys, sealed payloads.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::ledger {

/// Makes the folder and those above it with mode 0700. Errors: failure.
void make_private_folder(const std::filesystem::path& folder);

/// A new file of mode 0600 that is on disk, name and content, when this returns. A file that is
/// there already is not touched: returns false. Errors: failure.
bool write_new_file(const std::filesystem::path& path, std::string_view bytes);

/// A new file of mode 0600, in place of one of that name. A crash may leave part of it until
/// sync_files(). Errors: failure.
void write_file(const std::filesystem::path& path, std::string_view bytes);
/// Content and names of the files are on disk when this returns: about as fast for many as for
/// one. Errors: failure.
void sync_files(const std::vector<std::filesystem::path>& paths);

/// Errors: refused where others may read it; those of read_file.
std::string read_private_file(const std::filesystem::path& path, std::size_t bytes_max);

/// Overwrites, then removes; the removal is on disk when this returns. No such file: false.
/// Errors: failure.
bool destroy_file(const std::filesystem::path& path);

/// Held by one thread of all processes at a time, by the file `lock` of the folder. Not twice by
/// one. Errors: failure.
class FolderLock {
  public:
    explicit FolderLock(const std::filesystem::path& folder);
    ~FolderLock();
    FolderLock(const FolderLock&) = delete;
    FolderLock& operator=(const FolderLock&) = delete;

  private:
    int fd_;
};

/// Errors: refused (the folder belongs to another account: what this one writes there, that one
/// could not read).
void require_own(const std::filesystem::path& folder);

/// Syncs the names in a folder. Errors: failure.
void sync_folder(const std::filesystem::path& folder);

}  // namespace etalon::ledger

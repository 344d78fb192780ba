// SPDX-License-Identifier: Apache-2.0
// Which files were hashed before, with what result: a text file that only the user can write. A
// line is "1 DEVICE INODE SIZE SECONDS NANOSECONDS CONTENT".
//   VerifiedRecord record(path);                  // before a sandbox closes
//   if (record.knows(identity, content)) ...      // anywhere, nothing is opened any more
//   record.learn(identity, content);
#pragma once

#include <filesystem>
#include <set>
#include <string>

#include "base/file.h"

namespace etalon::weights {

/// Bytes of the file: some 8,000 lines. A larger one is begun anew, which costs one more hashing.
inline constexpr std::size_t kRecordBytesMax = std::size_t{1} << 20;
/// A file that was written within this time may be written once more without a new change time:
/// kernels take it from a clock that ticks every few milliseconds, some file systems every second.
inline constexpr std::int64_t kSettledSeconds = 2;

class VerifiedRecord {
  public:
    /// Opens the file and reads it; makes it and its folder where there is none. With an empty path
    /// or a file that cannot be opened (a read-only disk) it knows nothing and learns nothing: all
    /// is hashed at every start. Errors: refused (others may read or write the file, it is not the
    /// user's, no regular file, or has a second name), failure (it cannot be read).
    explicit VerifiedRecord(const std::filesystem::path& path);
    ~VerifiedRecord();
    VerifiedRecord(VerifiedRecord&& other) noexcept;
    VerifiedRecord& operator=(VerifiedRecord&&) = delete;

    bool knows(const FileIdentity& identity, const std::string& content) const;
    /// Does nothing for a file that may still change unseen, and nothing where the disk is full:
    /// the next start hashes again.
    void learn(const FileIdentity& identity, const std::string& content);
    /// SHA-256 of the whole file, hexadecimal, if it was learned; else empty.
    std::string whole_sha256(const FileIdentity& identity) const;
    void learn_whole(const FileIdentity& identity, const std::string& sha256);

    /// Nothing is learned any more.
    void close() noexcept;

    int fd() const noexcept { return fd_; }  ///< -1: none

  private:
    int fd_ = -1;
    std::set<std::string> lines_;
};

}  // namespace etalon::weights

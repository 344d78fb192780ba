// SPDX-License-Identifier: Apache-2.0
// What a model signature says: the in-toto statement of OMS v1.0, which lists the files of a model
// with their SHA-256, whole ("files") or in shards ("shards").
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"

namespace etalon::weights {

/// Bytes [begin, end) of a file. A whole file of the method "files" has an unknown end.
struct SignedRange {
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
    Sha256Digest digest{};
};

struct SignedFile {
    /// Below the folder of the model, with '/'; kOnlyFile for a model that is one file.
    std::string name;
    /// In order and without a gap, from byte 0.
    std::vector<SignedRange> ranges;
};
inline constexpr const char* kOnlyFile = ".";

struct Statement {
    std::string model_name;                 ///< for people; a renamed model is the same
    std::uint64_t shard_bytes = 0;          ///< 0: the method "files"
    std::vector<SignedFile> files;          ///< by name, ascending; at least one
    std::vector<std::string> ignore_names;  ///< files and folders that are not signed
    Sha256Digest root{};                    ///< over the digests in the order of the file

    bool has_shards() const noexcept { return shard_bytes != 0; }
};

/// JSON without spaces. `root` is computed, the rest of the statement is written as it is; the
/// method "shards" needs whole shards without an empty file.
std::string format_statement(Statement& statement);

/// Errors: invalid (another type or version, a hash that is not SHA-256, a name that leads out of
/// the folder or stands twice, shards that leave bytes out or overlap, a root that is not that of
/// the digests, a count over its limit).
Statement parse_statement(std::string_view text, const std::string& file);

/// A relative path without empty, "." and ".." parts.
bool is_plain_name(std::string_view name) noexcept;

}  // namespace etalon::weights

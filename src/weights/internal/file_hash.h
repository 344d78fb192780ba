// SPDX-License-Identifier: Apache-2.0
// SHA-256 of many files at once: whole files or shards are the tasks of all threads.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/sha256.h"
#include "weights/internal/model_tree.h"

namespace etalon::weights {

struct HashOptions {
    int n_threads = 1;
    std::uint64_t shard_bytes = 0;  ///< 0: whole files
    /// Called now and then from the calling thread; what it throws ends the hashing.
    std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
};

/// The digests of each file in order: one of a whole file, or one a shard (an empty file has none).
/// Every file is found and left with the identity that `files` say, else it was changed meanwhile.
/// Errors: invalid (a file has changed), failure (a file cannot be read).
std::vector<std::vector<Sha256Digest>> hash_files(const std::vector<const TreeFile*>& files,
                                                  const HashOptions& options);

}  // namespace etalon::weights

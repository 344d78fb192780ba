// SPDX-License-Identifier: Apache-2.0
// Import of a float or GGUF model to Etalon's own E8 file (spec IMP-1 to IMP-7).
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace etalon::weights {

struct ImportOptions {
    int n_threads = 1;
    /// Called now and then from the calling thread with bytes read so far and in all.
    std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
};

struct ImportResult {
    std::string sha256;  ///< of the written file, hexadecimal
    std::uint64_t bytes = 0;
};

/// Writes `destination` (a read-only .safetensors file; a temporary beside it until it is whole).
/// The bytes depend on the source's content alone. Memory: a few rows and the tokenizer, whatever
/// the model. Errors: not_found, invalid (source), failure (cannot write; destination exists).
ImportResult import_e8(const std::filesystem::path& source,
                       const std::filesystem::path& destination, const ImportOptions& options);

}  // namespace etalon::weights

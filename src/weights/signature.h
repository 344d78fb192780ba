// SPDX-License-Identifier: Apache-2.0
// Signatures of models, OpenSSF Model Signing (OMS) v1.0: docs/signatures.md says what they cover.
//   sign_model("m.gguf", signature_path("m.gguf"), key, {.n_threads = 8});
//   const Verification found = verify_model("m.gguf", signature_path("m.gguf"), public_key, {...});
//   if (!found.problems.empty()) ...
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "weights/signing_key.h"

namespace etalon::weights {

/// Bytes of a shard: 93 MB are six tasks for the cores, a terabyte has 60,000 lines in its
/// signature.
inline constexpr std::uint64_t kSignedShardBytes = std::uint64_t{16} << 20;

struct SignatureOptions {
    int n_threads = 1;
    /// Called now and then from the calling thread with bytes hashed so far and in all; what it
    /// throws ends the work.
    std::function<void(std::uint64_t done_bytes, std::uint64_t total_bytes)> progress;
    /// Of a new signature; 0: files are hashed whole, each on one core.
    std::uint64_t shard_bytes = kSignedShardBytes;
};

/// Where the signature of a model is looked for: "m.gguf.sig" beside a file, "model.sig" in a
/// folder.
std::filesystem::path signature_path(const std::filesystem::path& model);

/// Errors: failure (something lies there already): asked before long work.
void check_signature_is_new(const std::filesystem::path& signature);

struct SignedModel {
    std::string root;               ///< SHA-256 over the digests of all files, hexadecimal
    std::string model_name;         ///< as the signature says; a model may be renamed
    std::string key_hint;           ///< PublicKey::hint()
    std::uint64_t shard_bytes = 0;  ///< 0: files are hashed whole
    std::uint64_t file_count = 0;
    std::uint64_t bytes = 0;  ///< of the files on disk
};

/// Hashes the model and writes `signature`, which must not exist. A model with an empty file or a
/// ':' in a name is hashed by whole files, which shards cannot express. Errors: not_found, invalid
/// (symbolic links and the like in the model), failure (`signature` exists or cannot be written).
SignedModel sign_model(const std::filesystem::path& model, const std::filesystem::path& signature,
                       const PrivateKey& key, const SignatureOptions& options);

enum class ProblemKind : std::uint8_t { changed, missing, extra };
std::string_view problem_name(ProblemKind kind) noexcept;

struct Problem {
    ProblemKind kind = ProblemKind::changed;
    std::string file;    ///< below the model
    std::string detail;  ///< which bytes, which size
};

struct Verification {
    SignedModel model;
    std::vector<Problem> problems;  ///< by file; empty: the model is what was signed
};

/// Hashes the model and compares. Errors: not_found (model, signature), invalid (the bundle is
/// malformed, made with another key or does not fit; symbolic links and the like in the model).
Verification verify_model(const std::filesystem::path& model,
                          const std::filesystem::path& signature, const PublicKey& key,
                          const SignatureOptions& options);

/// "file config.json is not signed" for the first, and how many more there are.
std::string problems_text(const std::vector<Problem>& problems);

}  // namespace etalon::weights

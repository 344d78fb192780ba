// SPDX-License-Identifier: Apache-2.0
// A model on disk against a statement: which files differ.
#pragma once

#include <functional>

#include "weights/internal/file_hash.h"
#include "weights/internal/model_tree.h"
#include "weights/internal/oms_statement.h"
#include "weights/signature.h"

namespace etalon::weights {

/// A digest over the shard size and the digests of one file, in hexadecimal: what a file with this
/// content has, whatever its name.
std::string content_digest(const SignedFile& file, std::uint64_t shard_bytes);

/// Files whose content is known are not hashed.
struct KnownContent {
    std::function<bool(const FileIdentity&, const std::string& content)> knows;
    std::function<void(const FileIdentity&, const std::string& content)> learn;
};

/// Errors: those of hash_files().
Verification check_model(const ModelTree& tree, const Statement& statement,
                         const HashOptions& options, const KnownContent& known = {});

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// Files that carry one proof (C2SP tlog-proof): an entry is in the tree of a signed checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/policy.h"
#include "tlog/tree.h"

namespace etalon::tlog {

inline constexpr std::size_t kProofExtraBytesMax = 64 << 10;

struct ProofFile {
    std::string extra;  ///< bytes that the log wants the holder to keep; may be empty
    std::uint64_t index = 0;
    std::vector<Hash> hashes;
    std::string checkpoint;  ///< a signed note
};

std::string proof_file_text(const ProofFile& proof);
/// Errors: invalid.
ProofFile parse_proof_file(std::string_view text);

/// The checkpoint that covers `entry`. Errors: invalid, where the proof does not show it or the
/// policy is not met.
Checkpoint verify_proof_file(const ProofFile& proof, std::string_view entry, const Policy& policy);

}  // namespace etalon::tlog

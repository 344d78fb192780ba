// SPDX-License-Identifier: Apache-2.0
// A witness (C2SP tlog-witness): signs the checkpoints of a log as long as each continues the last.
// Pure: who calls it keeps what it remembers and carries the bytes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/checkpoint.h"

namespace etalon::tlog {

inline constexpr std::size_t kAddCheckpointBytesMax = 1 << 20;

/// The body of "add-checkpoint": "old N", hashes of a consistency proof, an empty line, the
/// checkpoint.
struct AddCheckpoint {
    std::uint64_t old_size = 0;
    std::vector<Hash> proof;
    std::string checkpoint;  ///< a signed note
};

std::string add_checkpoint_text(const AddCheckpoint& request);
/// Errors: invalid.
AddCheckpoint parse_add_checkpoint(std::string_view body);

/// What the witness answers: an HTTP status and a body. 200: lines of cosignatures, to be sent
/// only after `remembered` is safe. 400: not the form. 403: the log did not sign. 409: the size
/// that the witness knows; the request is for another. 422: the checkpoint does not continue it.
struct WitnessAnswer {
    int status = 0;
    std::string content_type;
    std::string body;
    std::optional<Checkpoint> remembered;
};

/// `last`: the last checkpoint of the log that this witness signed; size 0 where there is none.
WitnessAnswer add_checkpoint(std::string_view body, const VerifierKey& log, const Checkpoint& last,
                             const SigningKey& key, std::int64_t now);

}  // namespace etalon::tlog

// SPDX-License-Identifier: Apache-2.0
// Checkpoints (C2SP tlog-checkpoint): origin, size and root of a tree, as the text of a note.
//   etalon.example/ghent
//   1234
//   base64 of the root
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tlog/note.h"
#include "tlog/tree.h"

namespace etalon::tlog {

inline constexpr std::size_t kOriginBytesMax = 255;

struct Checkpoint {
    std::string origin;  ///< names the log; the name of its key
    std::uint64_t size = 0;
    Hash root{};

    std::string text() const;
    bool operator==(const Checkpoint&) const = default;
};

/// The text of a note, signatures apart. Extension lines are refused: not every cosignature covers
/// them. Errors: invalid.
Checkpoint parse_checkpoint(std::string_view text);

/// Parses a signed checkpoint and demands the signature of `log`, whose name is the origin.
/// Errors: invalid.
Checkpoint open_checkpoint(const Note& note, const VerifierKey& log);

/// A number without sign, leading zero or other byte, as every text format of logs writes it.
/// False: there is none, or more than kTreeSizeMax.
bool parse_decimal(std::string_view text, std::uint64_t& value);

/// A hash in base64. Errors: invalid.
Hash parse_hash(std::string_view text);
std::string hash_text(const Hash& hash);

}  // namespace etalon::tlog

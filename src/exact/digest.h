// SPDX-License-Identifier: Apache-2.0
// Checksum of logits and digest of a run (spec CHK-1, DIG-1, DIG-2).
#pragma once

#include <cstdint>
#include <span>

#include "base/sha256.h"

namespace etalon::exact {

/// sum of bits(logit_i) * (2 i + 1) mod 2^64 over the vocabulary (CHK-1). Order-free.
std::uint64_t logits_checksum(std::span<const float> logits) noexcept;

/// SHA-256 over, for each position i of a sequence that has a next token, that token's id (u32,
/// little endian) and the checksum of the logits at i (u64, little endian) (DIG-1). Prompt and
/// answer count alike, so decoding token by token and one prefill of the same tokens agree. Of an
/// answer alone: the same over the sampled positions only (DIG-3).
class RunDigest {
  public:
    void add(std::uint32_t next_token, std::uint64_t checksum);
    Sha256Digest finish() { return hash_.finish(); }

  private:
    Sha256 hash_;
};

}  // namespace etalon::exact

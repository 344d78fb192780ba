// SPDX-License-Identifier: Apache-2.0
// Checksum of logits and digest of a run (spec CHK-1, DIG-1).
#include "exact/digest.h"

#include <array>
#include <bit>

namespace etalon::exact {

std::uint64_t logits_checksum(std::span<const float> logits) noexcept {  // CHK-1
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        sum += std::uint64_t{std::bit_cast<std::uint32_t>(logits[i])} * (2 * i + 1);
    }
    return sum;
}

void RunDigest::add(std::uint32_t next_token, std::uint64_t checksum) {  // DIG-1
    std::array<std::byte, 12> record{};
    for (std::size_t i = 0; i < 4; ++i)
        record[i] = static_cast<std::byte>(next_token >> (8 * i));
    for (std::size_t i = 0; i < 8; ++i)
        record[4 + i] = static_cast<std::byte>(checksum >> (8 * i));
    hash_.update(record);
}

}  // namespace etalon::exact

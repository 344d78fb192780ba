// SPDX-License-Identifier: Apache-2.0
// Choice of bytes (sm_80).
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

/// Four bytes of the eight in `low` and `high`: nibble i of the low half of `selector` names byte i
/// by its low three bits. With bit 3 set the byte becomes eight copies of its top bit.
__device__ inline std::uint32_t permute(std::uint32_t low, std::uint32_t high,
                                        std::uint32_t selector) {
    std::uint32_t bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(selector));
    return bytes;
}

}  // namespace etalon::backend::cuda

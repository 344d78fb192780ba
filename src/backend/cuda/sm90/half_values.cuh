// SPDX-License-Identifier: Apache-2.0
// Codes of values as binary16 (spec ATT-8; attention_tile.cu says why that is exact).
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Four codes to binary16.
__device__ inline uint2 halves_of(std::uint32_t codes) {
    const std::uint32_t biased = codes ^ 0x80808080U;  // code + 128
    uint2 halves = {__byte_perm(biased, 0x64646464U, 0x4140),
                    __byte_perm(biased, 0x64646464U, 0x4342)};  // 1024 + 128 + code
    constexpr std::uint32_t kBias = 0xE480E480U;                // -1152
    asm("add.rn.f16x2 %0, %0, %1;" : "+r"(halves.x) : "r"(kBias));
    asm("add.rn.f16x2 %0, %0, %1;" : "+r"(halves.y) : "r"(kBias));
    return halves;
}

#endif

}  // namespace etalon::backend::cuda

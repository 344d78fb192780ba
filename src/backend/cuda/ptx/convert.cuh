// SPDX-License-Identifier: Apache-2.0
// Conversions of one instruction that need no header of half types.
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

/// binary16 to binary32, exact, subnormals too (FMT-1).
__device__ inline float float_from_f16(std::uint16_t bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}

/// bfloat16 to binary32 (FMT-2).
__device__ inline float float_from_bf16(std::uint16_t bits) {
    return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace etalon::backend::cuda

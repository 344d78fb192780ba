// SPDX-License-Identifier: Apache-2.0
// Instructions on floats that have no intrinsic.
#pragma once

namespace etalon::backend::cuda {

/// 1 / b to the last place or the one before; subnormal numbers count as zero.
__device__ inline float reciprocal_near(float b) {
    float r = 0.0F;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(b));
    return r;
}

/// The larger one, or a NaN where one of both is NaN.
__device__ inline float larger_or_nan(float a, float b) {
    float larger;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(a), "f"(b));
    return larger;
}

}  // namespace etalon::backend::cuda

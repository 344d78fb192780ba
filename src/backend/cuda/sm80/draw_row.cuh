// SPDX-License-Identifier: Apache-2.0
// What kernels over a row of logits share: P, orders, sums and maxima of a block (spec SMP-5,
// SMP-6).
#pragma once

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

inline constexpr int kRowWarps = 32;
inline constexpr int kRowThreads = kRowWarps * kWarpLanes;

/// P of SMP-5; no NaN, no logit above the largest.
__device__ inline std::uint32_t probability_units(float logit, float largest,
                                                  float inverse_temperature) {
    const float x = mul(mul(sub(logit, largest), inverse_temperature), exact::kLog2E);
    if (!(x >= -126.0F)) return 0;
    return __float2uint_rn(mul(exp2_full(x), 0x1p31F));
}

/// Orders finite floats; both zeros are one.
__device__ inline std::uint32_t ordered(float logit) {
    const std::uint32_t bits = __float_as_uint(add(logit, 0.0F));
    return (bits >> 31) != 0 ? ~bits : bits | 0x80000000U;
}

/// Logit descending, id ascending; above 0 for every finite logit.
__device__ inline std::uint64_t order_of(float logit, int id) {
    return std::uint64_t{ordered(logit)} << 32 | ~static_cast<std::uint32_t>(id);
}
__device__ inline int id_of(std::uint64_t order) {
    return static_cast<int>(~static_cast<std::uint32_t>(order));
}

__device__ inline std::uint64_t warp_sum(std::uint64_t value) {
#pragma unroll
    for (int half = kWarpLanes / 2; half >= 1; half /= 2)
        value += __shfl_xor_sync(kFullWarp, value, half);
    return value;
}
__device__ inline std::uint64_t warp_max(std::uint64_t value) {
#pragma unroll
    for (int half = kWarpLanes / 2; half >= 1; half /= 2)
        value = max(value, __shfl_xor_sync(kFullWarp, value, half));
    return value;
}

/// The largest value of the kRowThreads threads, and the sum; every thread gets it. `words` is free
/// before and after.
__device__ inline std::uint64_t row_max(std::uint64_t value, std::uint64_t (&words)[kRowWarps]) {
    value = warp_max(value);
    if (threadIdx.x % kWarpLanes == 0) words[threadIdx.x / kWarpLanes] = value;
    __syncthreads();
    value = warp_max(words[threadIdx.x % kWarpLanes]);
    __syncthreads();
    return value;
}
__device__ inline std::uint64_t row_sum(std::uint64_t value, std::uint64_t (&words)[kRowWarps]) {
    value = warp_sum(value);
    if (threadIdx.x % kWarpLanes == 0) words[threadIdx.x / kWarpLanes] = value;
    __syncthreads();
    value = warp_sum(words[threadIdx.x % kWarpLanes]);
    __syncthreads();
    return value;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Sums and maxima over the threads of a block (spec SUM-1, QNT-1).
#pragma once

#include <cstdint>

#include "backend/cuda/common/exact_math.cuh"

namespace etalon::backend::cuda {

inline constexpr int kLanes = 256;  ///< lanes of SUM-1, one a thread
inline constexpr int kWarpLanes = 32;
inline constexpr unsigned kFullWarp = 0xFFFFFFFFU;

/// The halving tree of SUM-1 from half = 16 on, for the lanes that a warp holds; lane 0 has it.
__device__ inline float sum_last_lanes(float lane) {
    for (int half = 16; half >= 1; half /= 2) {
        lane = add(lane, __shfl_down_sync(kFullWarp, lane, half));
    }
    return lane;
}

/// The halving tree over one lane in each of the first 256 threads of a block; every thread gets
/// the sum. `shared` has kLanes floats, free before and after.
__device__ inline float sum_lanes(float lane, float* shared) {
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < kLanes) shared[thread] = lane;
    __syncthreads();
    for (int half = kLanes / 2; half >= kWarpLanes; half /= 2) {
        if (thread < half) shared[thread] = add(shared[thread], shared[thread + half]);
        __syncthreads();
    }
    if (thread < kWarpLanes) {
        const float sum = sum_last_lanes(shared[thread]);
        if (thread == 0) shared[0] = sum;
    }
    __syncthreads();
    const float sum = shared[0];
    __syncthreads();
    return sum;
}

/// A lane of the sum of squares (SUM-1): its elements in order, the loads of some of them at once.
__device__ inline float square_sum_of_lane(const float* row, int k, int lane) {
    constexpr int kAtOnce = 8;
    float sum = 0.0F;
    for (int begin = lane; begin < k; begin += kAtOnce * kLanes) {
        float v[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            if (begin + j * kLanes < k) v[j] = row[begin + j * kLanes];
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            if (begin + j * kLanes < k) sum = fused(v[j], v[j], sum);
        }
    }
    return sum;
}

/// NRM-1 from the sum of the squares of k elements.
__device__ inline float norm_scale(float square_sum, int k, float eps) {
    const float mean = divide(square_sum, static_cast<float>(k));
    return divide(1.0F, __fsqrt_rn(add(mean, eps)));
}

/// Whether it is positive and finite; else the token has failed (ERR-1).
__device__ inline bool is_norm_scale(float scale) {
    const std::uint32_t bits = __float_as_uint(scale);
    return bits > 0 && bits < kInfinityBits;
}

/// The largest value of a block; every thread gets it. `shared` has 32 words, free before and
/// after.
__device__ inline std::uint32_t block_max(std::uint32_t value, std::uint32_t* shared) {
    const unsigned lane = threadIdx.x % kWarpLanes;
    value = __reduce_max_sync(kFullWarp, value);
    if (lane == 0) shared[threadIdx.x / kWarpLanes] = value;
    __syncthreads();
    const unsigned n_warps = blockDim.x / kWarpLanes;
    value = __reduce_max_sync(kFullWarp, lane < n_warps ? shared[lane] : 0U);
    __syncthreads();
    return value;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Weights of floating formats, and their dot product in 256 lanes by one warp (spec LIN-7, SUM-1).
#pragma once

#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/convert.cuh"
#include "exact/formats.h"

namespace etalon::backend::cuda {

inline constexpr int kLaneSums = kLanes / kWarpLanes;  ///< lanes of SUM-1 that a thread holds
static_assert(kLaneSums == 8, "the tree below has three levels inside a thread");

template <exact::Format kFormat>
__device__ float float_weight(const std::byte* row, int i) {
    if constexpr (kFormat == exact::Format::f32) {
        return reinterpret_cast<const float*>(row)[i];
    } else {
        const std::uint16_t bits = reinterpret_cast<const std::uint16_t*>(row)[i];
        return kFormat == exact::Format::f16 ? float_from_f16(bits) : float_from_bf16(bits);
    }
}

template <exact::Format kFormat>
constexpr std::size_t float_weight_bytes() {
    return kFormat == exact::Format::f32 ? 4 : 2;
}

/// The halving tree of SUM-1; a thread holds the lanes thread, thread + 32, ... Thread 0 has it.
__device__ inline float sum_tree(const float (&lanes)[kLaneSums]) {
    float quarter[kLaneSums / 2];
#pragma unroll
    for (int i = 0; i < kLaneSums / 2; ++i)
        quarter[i] = add(lanes[i], lanes[i + kLaneSums / 2]);  // half = 128
    const float even = add(quarter[0], quarter[2]);            // half = 64
    const float odd = add(quarter[1], quarter[3]);
    return sum_last_lanes(add(even, odd));  // half = 32, then inside the warp
}

}  // namespace etalon::backend::cuda

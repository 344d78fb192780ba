// SPDX-License-Identifier: Apache-2.0
// RoPE and the rotation of a head of 32 kMine elements between the lanes of a warp (spec RPE-6,
// ROT-6).
#pragma once

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/reduce.cuh"

namespace etalon::backend::cuda {

/// RPE-6 for the lane's elements kMine * lane...; turns[j] is that of pair j (RPE-5).
template <int kMine>
__device__ inline void turn_lane(float (&v)[kMine], const float2* turns, bool interleaved,
                                 int lane) {
    constexpr int kHalf = kMine * kWarpLanes / 2;  // pairs
    if (interleaved) {
#pragma unroll
        for (int i = 0; i < kMine; i += 2) {
            const float2 turn = turns[(kMine * lane + i) / 2];
            const float x0 = v[i];
            const float x1 = v[i + 1];
            v[i] = fused(x0, turn.x, -mul(x1, turn.y));
            v[i + 1] = fused(x0, turn.y, mul(x1, turn.x));
        }
        return;
    }
    const bool second = lane >= kWarpLanes / 2;
#pragma unroll
    for (int i = 0; i < kMine; ++i) {
        const float2 turn = turns[(kMine * lane + i) % kHalf];
        const float other = __shfl_xor_sync(kFullWarp, v[i], kWarpLanes / 2);
        v[i] = second ? fused(other, turn.y, mul(v[i], turn.x))
                      : fused(v[i], turn.x, -mul(other, turn.y));
    }
}

/// ROT-6 over all of a head.
template <int kMine>
__device__ inline void butterfly_lane(float (&v)[kMine], int lane) {
#pragma unroll
    for (int stride = 1; stride < kMine; stride *= 2) {
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            if ((i & stride) != 0) continue;
            const float a = v[i];
            const float b = v[i + stride];
            v[i] = add(a, b);
            v[i + stride] = sub(a, b);
        }
    }
#pragma unroll
    for (int mask = 1; mask < kWarpLanes; mask *= 2) {
#pragma unroll
        for (float& mine : v) {
            const float other = __shfl_xor_sync(kFullWarp, mine, mask);
            mine = (lane & mask) != 0 ? sub(other, mine) : add(mine, other);
        }
    }
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// RoPE and the rotation of a head between the 32 lanes of a warp, or between eight of them (spec
// RPE-6, ROT-6).
#pragma once

#include "backend/cuda/common/butterfly.cuh"
#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/reduce.cuh"

namespace etalon::backend::cuda {

/// --- 32 kMine elements, kMine successive ones a lane ---

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
    butterfly_own<1, kMine / 2>(v);
#pragma unroll
    for (int mask = 1; mask < kWarpLanes; mask *= 2) {
#pragma unroll
        for (float& mine : v) {
            const float other = __shfl_xor_sync(kFullWarp, mine, mask);
            mine = (lane & mask) != 0 ? sub(other, mine) : add(mine, other);
        }
    }
}

/// --- 32 kQuads elements, kQuads times four of them a lane ---
/// Element 4 i + k of lane r, k < 4, is element 32 i + 4 r + k of the head: eight lanes read 128
/// bytes together, the pairs of both forms are a lane's own, and of the strides of the butterfly
/// only 4, 8 and 16 lie between lanes.

inline constexpr int kHeadLanes = 8;
inline constexpr int kQuad = 4;

/// The turns of the lane's pairs from those of a token (RPE-5).
template <int kQuads>
__device__ inline void load_turns(float2 (&turns)[2 * kQuads], const float2* of_token,
                                  bool interleaved, int r) {
#pragma unroll
    for (int m = 0; m < 2 * kQuads; ++m) {
        const int j = interleaved ? m / 2 * 2 * kHeadLanes + 2 * r + m % 2
                                  : m / kQuad * kQuad * kHeadLanes + kQuad * r + m % kQuad;
        turns[m] = of_token[j];
    }
}

/// RPE-6.
template <bool kInterleaved, int kQuads>
__device__ inline void turn_quads(float (&v)[kQuad * kQuads], const float2 (&turns)[2 * kQuads]) {
#pragma unroll
    for (int m = 0; m < 2 * kQuads; ++m) {
        const int first = kInterleaved ? 2 * m : m;
        const int second = kInterleaved ? 2 * m + 1 : m + 2 * kQuads;
        const float x0 = v[first];
        const float x1 = v[second];
        v[first] = fused(x0, turns[m].x, -mul(x1, turns[m].y));
        v[second] = fused(x0, turns[m].y, mul(x1, turns[m].x));
    }
}

/// ROT-6 over all of a head, strides from low to high. Between lanes a + b and a - b are one
/// multiply-add with 1 or -1: the product is exact, signs of zeros too, and x - y is x + (-y), so
/// that the only rounding is that of add() or sub().
template <int kQuads>
__device__ inline void butterfly_quads(float (&v)[kQuad * kQuads], int r) {
    butterfly_own<1, kQuad / 2>(v);
#pragma unroll
    for (int mask = 1; mask < kHeadLanes; mask *= 2) {
        const float sign = (r & mask) != 0 ? -1.0F : 1.0F;
#pragma unroll
        for (float& mine : v)
            mine = fused(mine, sign, __shfl_xor_sync(kFullWarp, mine, mask));
    }
    butterfly_own<kQuad, kQuad * kQuads / 2>(v);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Heads of queries, keys and values: RoPE, rotation, quantisation, into the cache (spec RPE-5,
// RPE-6, ROT-6, QNT-2, ERR-1).
#include <cuda_runtime.h>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/kv_address.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/rope_head.cuh"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;

/// Turns the pairs of a head (RPE-6); the result is visible to the warp.
__device__ void rope_head(float* v, const RopeView& rope, std::int32_t position, int lane) {
    for (int j = lane; j < rope.n_pairs; j += kWarpLanes) {
        const SinCos turn = sincos_turn(rope.turns[j] * static_cast<std::uint64_t>(position));
        const float c = mul(turn.cos, rope.magnitude);  // RPE-5
        const float s = mul(turn.sin, rope.magnitude);
        const int first = rope.interleaved ? 2 * j : j;
        const int second = rope.interleaved ? 2 * j + 1 : j + rope.n_pairs;
        const float x0 = v[first];
        const float x1 = v[second];
        v[first] = fused(x0, c, -mul(x1, s));
        v[second] = fused(x0, s, mul(x1, c));
    }
    __syncwarp();
}

/// ROT-6; the result is visible to the warp.
__device__ void butterfly_head(float* v, int head_dim, int block, int lane) {
    for (int stride = 1; stride < block; stride *= 2) {
        for (int p = lane; p < head_dim / 2; p += kWarpLanes) {
            const int i = ((p & ~(stride - 1)) << 1) | (p & (stride - 1));
            const float a = v[i];
            const float b = v[i + stride];
            v[i] = add(a, b);
            v[i + stride] = sub(a, b);
        }
        __syncwarp();
    }
}

/// RoPE on q and k, butterfly over the head, int8; q to the queries, k and v to the cache (RPE-5,
/// RPE-6, ROT-6, QNT-2).
///   in:  qkv binary32 [T, n_heads + 2 n_kv_heads, head_dim]
///   out: queries, the cache at each token's position, failed [T]
///   tile: one head a warp, 4 warps; shared: 16 head_dim bytes
///   floor: 5 bytes an element, of the read speed
///   supported: any head_dim; n_pairs <= head_dim / 2
__global__ void __launch_bounds__(kThreads)
    rope_append_sm80(BatchView batch, const float* qkv, RopeView rope, int layer, KvView kv,
                     QueriesView queries) {
    extern __shared__ float heads[];
    let_next_kernel_start();
    wait_for_kernels_before();
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int head = static_cast<int>(blockIdx.x) * kWarps + warp;
    const int n_heads = queries.n_heads + 2 * kv.n_kv_heads;
    if (head >= n_heads) return;
    const std::size_t t = blockIdx.y;
    const int d = queries.head_dim;
    const std::int32_t position = batch.positions[t];
    float* v = heads + warp * d;
    const float* from = qkv + (t * n_heads + head) * d;
    for (int i = lane; i < d; i += kWarpLanes)
        v[i] = from[i];
    __syncwarp();
    const int kv_head = head - queries.n_heads;
    if (kv_head < kv.n_kv_heads) {  // queries and keys
        rope_head(v, rope, position, lane);
        butterfly_head(v, d, rope.block, lane);
    }
    std::uint32_t amax = 0;
    for (int i = lane; i < d; i += kWarpLanes)
        amax = max(amax, magnitude_bits(v[i]));
    const Quantizer quantizer(__reduce_max_sync(kFullWarp, amax));
    if (!quantizer.finite && lane == 0) batch.failed[t] = 1;  // ERR-1
    if (kv_head < 0) {
        const std::size_t row = t * queries.n_heads + head;
        for (int i = lane; i < d; i += kWarpLanes)
            queries.q[row * queries.dim_stride + i] =
                static_cast<std::int8_t>(quantizer.code(v[i]));
        if (lane == 0) queries.scales[row] = quantizer.scale;
        return;
    }
    const bool is_key = kv_head < kv.n_kv_heads;
    const std::int32_t page = page_of(batch, t, position);
    const std::size_t index =
        head_page(kv, layer, page, is_key ? kv_head : kv_head - kv.n_kv_heads);
    const int slot = position % kPageSlots;
    for (int i = lane; i < d; i += kWarpLanes) {
        const auto code = static_cast<std::int8_t>(quantizer.code(v[i]));
        if (is_key) {
            kv.keys[key_address(kv, index, slot, i)] = code;
        } else {
            kv.values[value_address(kv, index, slot, i)] = code;
        }
    }
    if (lane == 0)
        (is_key ? kv.key_scales : kv.value_scales)[index * kPageSlots + slot] = quantizer.scale;
}

/// --- heads of 64 or 128 elements, all of them turned ---

constexpr int kFastWarps = 8;
constexpr int kFastPairsMax = 64;
constexpr int kSplitTokensMax = 512;  // below, the heads of a token are spread over blocks

/// As rope_append_sm80, for heads of 32 kMine elements that are turned and rotated whole.
///   tile: the heads of a token, one a warp at a time, 8 warps; the turns of the token once a block
template <int kMine>
__global__ void __launch_bounds__(kFastWarps* kWarpLanes)
    rope_append_whole_sm80(BatchView batch, const float* qkv, RopeView rope, int layer, KvView kv,
                           QueriesView queries) {
    __shared__ float2 turns[kFastPairsMax];
    const int thread = static_cast<int>(threadIdx.x);
    const int warp = thread / kWarpLanes;
    const int lane = thread % kWarpLanes;
    const int n_heads = queries.n_heads + 2 * kv.n_kv_heads;
    const std::size_t t = blockIdx.y;
    let_next_kernel_start();
    // The batch was sent before the first kernel of the forward pass: it can be read already.
    const std::int32_t position = batch.positions[t];
    if (thread < rope.n_pairs) {
        const SinCos turn = sincos_turn(rope.turns[thread] * static_cast<std::uint64_t>(position));
        turns[thread] = {mul(turn.cos, rope.magnitude), mul(turn.sin, rope.magnitude)};  // RPE-5
    }
    const std::int32_t page = page_of(batch, t, position);
    const int slot = position % kPageSlots;
    __syncthreads();
    wait_for_kernels_before();
    for (int head = static_cast<int>(blockIdx.x) * kFastWarps + warp; head < n_heads;
         head += static_cast<int>(gridDim.x) * kFastWarps) {
        const int kv_head = head - queries.n_heads;
        float v[kMine];
        const auto* from = reinterpret_cast<const float2*>(
            qkv + (t * n_heads + head) * (kMine * kWarpLanes) + kMine * lane);
#pragma unroll
        for (int i = 0; i < kMine; i += 2) {
            const float2 two = from[i / 2];
            v[i] = two.x;
            v[i + 1] = two.y;
        }
        if (kv_head < kv.n_kv_heads) {  // queries and keys
            turn_lane<kMine>(v, turns, rope.interleaved, lane);
            butterfly_lane<kMine>(v, lane);
        }
        std::uint32_t amax = 0;
#pragma unroll
        for (int i = 0; i < kMine; ++i)
            amax = max(amax, magnitude_bits(v[i]));
        const Quantizer quantizer(__reduce_max_sync(kFullWarp, amax));
        if (!quantizer.finite && lane == 0) batch.failed[t] = 1;  // ERR-1
        std::int8_t* to = nullptr;
        int stride = 1;  // from one element of the lane to the next
        float* scale = nullptr;
        if (kv_head < 0) {
            const std::size_t row = t * queries.n_heads + head;
            to = queries.q + row * queries.dim_stride + kMine * lane;
            scale = queries.scales + row;
        } else {
            const bool is_key = kv_head < kv.n_kv_heads;
            const std::size_t index =
                head_page(kv, layer, page, is_key ? kv_head : kv_head - kv.n_kv_heads);
            if (is_key) {
                to = kv.keys + key_address(kv, index, slot, kMine * lane);
            } else {
                to = kv.values + value_address(kv, index, slot, kMine * lane);
                stride = kValueRun;
            }
            scale = (is_key ? kv.key_scales : kv.value_scales) + index * kPageSlots + slot;
        }
        int codes[kMine];
#pragma unroll
        for (int i = 0; i < kMine; ++i)
            codes[i] = quantizer.code(v[i]);
        if (stride == 1) {
#pragma unroll
            for (int i = 0; i < kMine; i += 2)
                reinterpret_cast<std::uint16_t*>(to)[i / 2] =
                    static_cast<std::uint16_t>((codes[i] & 0xFF) | (codes[i + 1] & 0xFF) << 8);
        } else {
#pragma unroll
            for (int i = 0; i < kMine; ++i)
                to[i * stride] = static_cast<std::int8_t>(codes[i]);
        }
        if (lane == 0) *scale = quantizer.scale;
    }
}

template <int kMine>
void launch_whole(const BatchView& batch, const float* qkv, const RopeView& rope, int layer,
                  const KvView& kv, const QueriesView& queries, Stream stream) {
    const int n_heads = queries.n_heads + 2 * kv.n_kv_heads;
    const int blocks =
        batch.n_tokens <= kSplitTokensMax ? (n_heads + kFastWarps - 1) / kFastWarps : 1;
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(batch.n_tokens));
    launch_dependent("rope_append", rope_append_whole_sm80<kMine>, grid, kFastWarps * kWarpLanes, 0,
                     stream, batch, qkv, rope, layer, kv, queries);
}

}  // namespace

void launch_rope_append(const BatchView& batch, const float* qkv, const RopeView& rope, int layer,
                        const KvView& kv, const QueriesView& queries, Stream stream) {
    const bool whole = rope.block == queries.head_dim && 2 * rope.n_pairs == queries.head_dim;
    if (whole && queries.head_dim == 128)
        return launch_whole<4>(batch, qkv, rope, layer, kv, queries, stream);
    if (whole && queries.head_dim == 64)
        return launch_whole<2>(batch, qkv, rope, layer, kv, queries, stream);
    const int n_heads = queries.n_heads + 2 * kv.n_kv_heads;
    const dim3 grid(static_cast<unsigned>((n_heads + kWarps - 1) / kWarps),
                    static_cast<unsigned>(batch.n_tokens));
    const std::size_t bytes = sizeof(float) * kWarps * static_cast<std::size_t>(queries.head_dim);
    launch_dependent("rope_append", rope_append_sm80, grid, kThreads, bytes, stream, batch, qkv,
                     rope, layer, kv, queries);
}

}  // namespace etalon::backend::cuda

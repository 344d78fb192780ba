// SPDX-License-Identifier: Apache-2.0
// Heads of queries, keys and values: RoPE, rotation, quantisation, into the cache (spec RPE-5,
// RPE-6, ROT-6, QNT-2, ERR-1).
#include <algorithm>
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
constexpr int kFastThreads = kFastWarps * kWarpLanes;
constexpr int kFastPairsMax = 64;
constexpr int kOneTokenMax = 128;  // tokens: up to here a warp has a head of one, else of four
/// The heads of four tokens are spread over blocks as long as there are no more than this: four on
/// each multiprocessor of a large card.
constexpr int kTokensBlocks = 512;
constexpr int kBlocksOfMultiprocessor = 4;

/// As rope_append_sm80, for few tokens and heads of 32 kMine elements that are turned and rotated
/// whole.
///   tile: one head a warp, 8 warps; the turns of the token once a block
template <int kMine>
__global__ void __launch_bounds__(kFastThreads)
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
    const int head = static_cast<int>(blockIdx.x) * kFastWarps + warp;
    if (head >= n_heads) return;
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

/// Codes of four elements (Quantizer::code), in order from the lowest byte.
__device__ std::uint32_t codes_of(const Quantizer& quantizer, const float* x) {
    std::uint32_t bits[kQuad];
#pragma unroll
    for (int k = 0; k < kQuad; ++k)
        bits[k] = code_bits(x[k], quantizer.inverse);
    const std::uint32_t word = low_bytes(bits[0], bits[1], bits[2], bits[3]);
    return quantizer.inverse == 0.0F ? 0 : word;
}

/// The largest magnitude of a head, for each of its lanes (QNT-1).
template <int kMine>
__device__ std::uint32_t head_magnitude(const float (&v)[kMine]) {
    float largest[kQuad] = {v[0], v[1], v[2], v[3]};
#pragma unroll
    for (int i = kQuad; i < kMine; ++i)
        largest[i % kQuad] = larger_magnitude(largest[i % kQuad], v[i]);
    std::uint32_t bits = magnitude_bits(larger_magnitude(larger_magnitude(largest[0], largest[1]),
                                                         larger_magnitude(largest[2], largest[3])));
#pragma unroll
    for (int mask = 1; mask < kHeadLanes; mask *= 2)
        bits = max(bits, __shfl_xor_sync(kFullWarp, bits, mask));
    return bits;
}

constexpr int kWarpTokens = kWarpLanes / kHeadLanes;
static_assert(kWarpTokens == kValueRun);

/// The token of a lane.
struct LaneToken {
    int t;
    int page;
    int slot;
    int in_warp;  ///< which of the warp's tokens
    bool run;     ///< the warp's tokens fill a run of slots

    /// Lanes behind the last token have it once more: they write what it writes, where it does.
    __device__ LaneToken(const BatchView& batch, int first, int lane)
        : t(min(first + lane / kHeadLanes, batch.n_tokens - 1)), in_warp(lane / kHeadLanes) {
        const std::int32_t position = batch.positions[t];
        page = page_of(batch, static_cast<std::size_t>(t), position);
        slot = static_cast<int>(static_cast<unsigned>(position) % kPageSlots);
        const int first_page = __shfl_sync(kFullWarp, page, 0);
        const int first_slot = __shfl_sync(kFullWarp, slot, 0);
        run = __all_sync(kFullWarp, page == first_page && slot == first_slot + in_warp &&
                                        slot % kValueRun == in_warp) != 0;
    }
};

/// Codes of a value of each token to head page `index`, which is that of the lane's token. A lane
/// has four elements of one token in a word; lanes 8 and 16 apart change bytes until it has one
/// element of four tokens, as a word of the page has.
template <int kQuads>
__device__ void append_values(const KvView& kv, std::size_t index, const LaneToken& token, int r,
                              std::uint32_t (&words)[kQuads]) {
    const bool odd = (token.in_warp & 1) != 0;
    const bool high = (token.in_warp & 2) != 0;
    const unsigned halves = high ? 0x3276 : 0x5410;
    const unsigned bytes = odd ? 0x3715 : 0x6240;
#pragma unroll
    for (std::uint32_t& word : words) {
        word = __byte_perm(word, __shfl_xor_sync(kFullWarp, word, 2 * kHeadLanes), halves);
        word = __byte_perm(word, __shfl_xor_sync(kFullWarp, word, kHeadLanes), bytes);
    }
    const int element = kQuad * r + token.in_warp;         // of the first word
    constexpr int kNext = kQuad * kHeadLanes * kValueRun;  // bytes to the next word
    const std::size_t head = value_address(kv, index, token.slot, 0);
    if (token.run) {
        std::int8_t* to = kv.values + head - token.in_warp + element * kValueRun;
#pragma unroll
        for (int i = 0; i < kQuads; ++i)
            *reinterpret_cast<std::uint32_t*>(to + i * kNext) = words[i];
        return;
    }
#pragma unroll
    for (int b = 0; b < kWarpTokens; ++b) {
        std::int8_t* to =
            kv.values + __shfl_sync(kFullWarp, head, b * kHeadLanes) + element * kValueRun;
#pragma unroll
        for (int i = 0; i < kQuads; ++i)
            to[i * kNext] = static_cast<std::int8_t>(words[i] >> (8 * b) & 0xFFU);
    }
}

/// Codes and scale of the lane's share of a head to where they belong (QNT-2).
template <int kQuads>
__device__ void append_codes(const float (&v)[kQuad * kQuads], const Quantizer& quantizer, int head,
                             const LaneToken& token, int r, int layer, const KvView& kv,
                             const QueriesView& queries) {
    std::uint32_t words[kQuads];
#pragma unroll
    for (int i = 0; i < kQuads; ++i)
        words[i] = codes_of(quantizer, v + kQuad * i);
    const auto put = [&](std::int8_t* to, int next) {
#pragma unroll
        for (int i = 0; i < kQuads; ++i)
            *reinterpret_cast<std::uint32_t*>(to + i * next) = words[i];
    };
    constexpr int kApart = kQuad * kHeadLanes;  // of the lane's quads in the head
    const int kv_head = head - queries.n_heads;
    if (kv_head < 0) {
        const std::size_t row = static_cast<std::size_t>(token.t) * queries.n_heads + head;
        put(queries.q + row * queries.dim_stride + kQuad * r, kApart);
        if (r == 0) queries.scales[row] = quantizer.scale;
        return;
    }
    const bool is_key = kv_head < kv.n_kv_heads;
    const std::size_t index =
        head_page(kv, layer, token.page, is_key ? kv_head : kv_head - kv.n_kv_heads);
    if (is_key) {
        put(kv.keys + key_address(kv, index, token.slot, kQuad * r), kApart * kPageSlots);
    } else {
        append_values<kQuads>(kv, index, token, r, words);
    }
    if (r == 0)
        (is_key ? kv.key_scales : kv.value_scales)[index * kPageSlots + token.slot] =
            quantizer.scale;
}

/// As rope_append_sm80, for many tokens and heads of 32 kQuads elements that are turned and rotated
/// whole.
///   tile: one head of four successive tokens a warp at a time, eight lanes a head, 8 warps; the
///         turns of the tokens once a block
///   floor: 5 bytes an element, of the read speed
///   supported: kQuads 2 or 4; tokens of any sequences, those that fill a run of slots are fastest
template <int kQuads>
__global__ void __launch_bounds__(kFastThreads, kBlocksOfMultiprocessor)
    rope_append_tokens_sm80(BatchView batch, const float* qkv, RopeView rope, int layer, KvView kv,
                            QueriesView queries) {
    constexpr int kDim = kQuad * kHeadLanes * kQuads;
    constexpr int kPairs = kDim / 2;
    static_assert(kWarpTokens * kPairs <= kFastThreads);
    __shared__ float2 turns[kWarpTokens][kPairs];
    const auto thread = static_cast<int>(threadIdx.x % kFastThreads);
    const int lane = thread % kWarpLanes;
    const int r = lane % kHeadLanes;
    const int first = static_cast<int>(blockIdx.y) * kWarpTokens;
    const int n_heads = queries.n_heads + 2 * kv.n_kv_heads;
    let_next_kernel_start();
    // The batch was sent before the first kernel of the forward pass: it can be read already.
    if (thread < kWarpTokens * kPairs) {
        const int t = min(first + thread / kPairs, batch.n_tokens - 1);
        const SinCos turn = sincos_turn(rope.turns[thread % kPairs] *
                                        static_cast<std::uint64_t>(batch.positions[t]));
        turns[thread / kPairs][thread % kPairs] = {mul(turn.cos, rope.magnitude),
                                                   mul(turn.sin, rope.magnitude)};  // RPE-5
    }
    const LaneToken token(batch, first, lane);
    __syncthreads();
    float2 mine[2 * kQuads];
    load_turns<kQuads>(mine, turns[token.in_warp], rope.interleaved, r);
    wait_for_kernels_before();
    bool finite = true;
    // The same in all lanes, and the compiler sees it: no branch by it parts them.
    const int warp = __shfl_sync(kFullWarp, thread / kWarpLanes, 0);
    for (int head = static_cast<int>(blockIdx.x) * kFastWarps + warp; head < n_heads;
         head += static_cast<int>(gridDim.x) * kFastWarps) {
        float v[kQuad * kQuads];
        const auto* from = reinterpret_cast<const float4*>(
                               qkv + (static_cast<std::size_t>(token.t) * n_heads + head) * kDim) +
                           r;
#pragma unroll
        for (int i = 0; i < kQuads; ++i) {
            const float4 quad = from[i * kHeadLanes];
            v[kQuad * i] = quad.x;
            v[kQuad * i + 1] = quad.y;
            v[kQuad * i + 2] = quad.z;
            v[kQuad * i + 3] = quad.w;
        }
        const int kv_head = head - queries.n_heads;
        if (kv_head < kv.n_kv_heads) {  // queries and keys
            rope.interleaved ? turn_quads<true, kQuads>(v, mine)
                             : turn_quads<false, kQuads>(v, mine);
            butterfly_quads<kQuads>(v, r);
        }
        const Quantizer quantizer(head_magnitude(v));
        finite = finite && quantizer.finite;
        append_codes<kQuads>(v, quantizer, head, token, r, layer, kv, queries);
    }
    if (!finite && r == 0) batch.failed[token.t] = 1;  // ERR-1
}

dim3 grid_of(int x, int y) {
    return dim3(static_cast<unsigned>(x), static_cast<unsigned>(y));
}

template <int kQuads>
void launch_whole(const BatchView& batch, const float* qkv, const RopeView& rope, int layer,
                  const KvView& kv, const QueriesView& queries, Stream stream) {
    const int n_heads = queries.n_heads + 2 * kv.n_kv_heads;
    const int parts = (n_heads + kFastWarps - 1) / kFastWarps;
    if (batch.n_tokens <= kOneTokenMax) {
        launch_dependent("rope_append", rope_append_whole_sm80<kQuads>,
                         grid_of(parts, batch.n_tokens), kFastThreads, 0, stream, batch, qkv, rope,
                         layer, kv, queries);
        return;
    }
    const int blocks = (batch.n_tokens + kWarpTokens - 1) / kWarpTokens;
    launch_dependent("rope_append", rope_append_tokens_sm80<kQuads>,
                     grid_of(std::clamp(kTokensBlocks / blocks, 1, parts), blocks), kFastThreads, 0,
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

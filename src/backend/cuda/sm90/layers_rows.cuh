// SPDX-License-Identifier: Apache-2.0
// The codes of decode_layers.cu: what the blocks read of h, of the heads and of SwiGLU becomes the
// input of the next matrix (spec NRM, SUM-1, ROT-3, QNT-2, ATT-10, ATT-11, ERR-1, ERR-2).
#pragma once

#include "backend/cuda/sm80/attention_decode.cuh"
#include "backend/cuda/sm90/layers_stream.cuh"

namespace etalon::backend::cuda::layers {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// 16 floats that another block has written.
__device__ inline void load_16(const float* from, float (&v)[kMine]) {
#pragma unroll
    for (int j = 0; j < kMine; j += 4) {
        const float4 quad = __ldcg(reinterpret_cast<const float4*>(from + j));
        v[j] = quad.x;
        v[j + 1] = quad.y;
        v[j + 2] = quad.z;
        v[j + 3] = quad.w;
    }
}

/// ROT-3, the strides of 4 bits of an element, of which the block has those below `n_bits`.
__device__ inline void strides(float (&v)[kMine], int n_bits) {
#pragma unroll
    for (int bit = 0; bit < 4; ++bit) {
        if (bit >= n_bits) break;
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            const int other = i + (1 << bit);
            if ((i >> bit & 1) != 0) continue;
            const float a = v[i];
            const float b = v[other];
            v[i] = add(a, b);
            v[other] = sub(a, b);
        }
    }
}

/// The strides from 2^kDimUnitBits on of the butterfly over blocks of 2^n_bits (8 to 12) elements
/// of a round. On entry a thread has elements 256 (thread / 16) + 16 j + thread % 16, afterwards
/// 256 j + thread.
__device__ inline void rotate(float (&v)[kMine], int thread, int n_bits, float* z) {
    static_assert(kDimUnitBits == 4);
    strides(v, 4);
    float* middle = z + place_of((thread >> 4 << 8) | (thread & 15));
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        middle[place_of(16) * j] = v[j];
    sync();
    const float* high = z + place_of(thread);
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        v[j] = high[place_of(256) * j];
    strides(v, n_bits - 8);
}

/// Codes of QNT-2 in the low 8 bits of an integer.
struct Coder {
    float inverse;

    __device__ std::uint32_t operator()(float x) const {
        // 1.5 * 2^23 more leaves the nearest integer in the low bits (FLT-4). Where every code is 0
        // nothing is said about x.
        const std::uint32_t bits = __float_as_uint(add(mul(x, inverse), kMagic));
        return inverse == 0.0F ? 0U : bits & 0xFFU;
    }
};

/// The largest value of all threads; `words` is free before, and at the next barrier but one, or
/// behind a norm when its scale is there (scale_norms()).
__device__ inline std::uint32_t block_max(std::uint32_t value, std::uint32_t (&words)[kWarps]) {
    value = __reduce_max_sync(kFullWarp, value);
    if (threadIdx.x % kWarpLanes == 0) words[threadIdx.x / kWarpLanes] = value;
    sync();
#pragma unroll
    for (const std::uint32_t word : words)
        value = max(value, word);
    return value;
}

/// The next kCount elements of a lane of SUM-1.
template <int kCount>
__device__ float square_sum(const float* row, float sum) {
    float v[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j)
        v[j] = __ldcg(row + j * kLanes);
#pragma unroll
    for (int j = 0; j < kCount; ++j)
        sum = fused(v[j], v[j], sum);
    return sum;
}

/// A lane of SUM-1 of up to kCount elements, which are all under way before the first is added: a
/// long row would wait for the second cache once more for each part of it.
template <int kCount>
__device__ float square_sum_at_once(const float* row, int k) {
    float v[kCount];
#pragma unroll
    for (int j = 0; j < kCount; ++j)
        v[j] =
            j / 4 * (4 * kLanes) < k ? __ldcg(row + j * kLanes) : 0.0F;  // k is a multiple of 1,024
    float sum = 0.0F;
#pragma unroll
    for (int j = 0; j < kCount; ++j)
        sum = fused(v[j], v[j], sum);  // squares of +0 behind k change no bit
    return sum;
}

/// NRM-1 from the lanes of SUM-1, by a warp for itself.
__device__ inline float norm_scale(const float (&lanes)[kLanes], int k, float eps, int lane) {
    float part[kLanes / kWarpLanes];
#pragma unroll
    for (int i = 0; i < kLanes / kWarpLanes; ++i)
        part[i] = lanes[i * kWarpLanes + lane];
#pragma unroll
    for (int half = kLanes / kWarpLanes / 2; half >= 1; half /= 2) {
#pragma unroll
        for (int i = 0; i < half; ++i)
            part[i] = add(part[i], part[i + half]);
    }
    const float ss = __shfl_sync(kFullWarp, sum_last_lanes(part[0]), 0);
    const float mean = divide(ss, static_cast<float>(k));
    return divide(1.0F, __fsqrt_rn(add(mean, eps)));
}

/// h to codes: `z` has w h after the strides of a unit (NRM-2, ROT-3, QNT-2). `codes` has room for
/// a round of floats, too; `lanes` are those of SUM-1, `words` have the largest magnitudes of the
/// warps.
template <int kRounds>
__device__ void norm_quantize(const float* h, const float* z, int k, int n_bits, std::int8_t* codes,
                              float (&lanes)[kLanes], std::uint32_t (&words)[kWarps]) {
    static_assert(kThreads == kLanes && kLanes % kMine == 0);
    const int thread = static_cast<int>(threadIdx.x);
    auto* room = reinterpret_cast<float*>(codes);
    float v[kRounds][kMine];
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int first = round * kRound + ((thread >> 4 << 8) | (thread & 15));
#pragma unroll
        for (float& value : v[round])
            value = 0.0F;
        if (first >= k) continue;
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[round][j] = __ldcg(z + first + kMine * j);
    }
    if constexpr (kRounds > 2) {
        lanes[thread] = square_sum_at_once<kRounds * kMine>(h + thread, k);
    } else {
        float sum = 0.0F;
        int begin = thread;
        for (; begin + (kMine - 1) * kLanes < k; begin += kMine * kLanes)
            sum = square_sum<kMine>(h + begin, sum);
        for (; begin < k; begin += 4 * kLanes)  // k is a multiple of 1,024
            sum = square_sum<4>(h + begin, sum);
        lanes[thread] = sum;
    }
    std::uint32_t amax = 0;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        if (round * kRound >= k) break;
        if (round > 0) sync();
        rotate(v[round], thread, n_bits, room);
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            amax = max(amax, magnitude_bits(v[round][j]));
    }
    amax = block_max(amax, words);
    const Coder coder{Quantizer(amax < kInfinityBits ? amax : 0U).inverse};
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        if (round * kRound >= k) break;
#pragma unroll
        for (int j = 0; j < kMine; ++j) {
            const int e = round * kRound + kThreads * j + thread;
            if (e < k) codes[e] = static_cast<std::int8_t>(coder(v[round][j]));
        }
    }
}

/// The strides from 2^kFrom to below 2^kTo of the butterfly over the lanes' values.
template <int kFrom, int kTo>
__device__ float rotate_lanes(float v, int lane) {
#pragma unroll
    for (int mask = 1 << kFrom; mask < 1 << kTo; mask *= 2) {
        const float other = __shfl_xor_sync(kFullWarp, v, mask);
        v = (lane & mask) != 0 ? sub(other, v) : add(v, other);
    }
    return v;
}

/// The input of down to codes: `v_row` has it after the strides of a unit (ROT-3, QNT-2). A block
/// is 2^kBits elements in each lane of a warp.
template <typename Size, int kBits>
__device__ void rotate_quantize(const float* v_row, int k, std::int8_t* codes,
                                std::uint32_t (&words)[kWarps], float& scale,
                                std::uint8_t* failed) {
    constexpr int kSpan = 1 << kBits;
    constexpr int kBlock = kSpan * kWarpLanes;
    constexpr int kBlocks = (Size::kHiddenMax - 1) / (kWarps * kBlock) + 1;  // of a warp
    const int thread = static_cast<int>(threadIdx.x);
    const int first = thread / kWarpLanes * kBlocks * kBlock + thread % kWarpLanes;
    float v[kBlocks][kSpan];
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int j = 0; j < kSpan; ++j)
            v[b][j] =
                first + b * kBlock < k ? __ldcg(v_row + first + b * kBlock + j * kWarpLanes) : 0.0F;
    }
    std::uint32_t amax = 0;
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
#pragma unroll
        for (int j = 0; j < kSpan; ++j)
            v[b][j] = rotate_lanes<kHiddenUnitBits, kLaneBits>(v[b][j], thread % kWarpLanes);
#pragma unroll
        for (int stride = 1; stride < kSpan; stride *= 2) {
#pragma unroll
            for (int j = 0; j < kSpan; ++j) {
                if ((j & stride) != 0) continue;
                const float low = v[b][j];
                const float high = v[b][j + stride];
                v[b][j] = add(low, high);
                v[b][j + stride] = sub(low, high);
            }
        }
#pragma unroll
        for (int j = 0; j < kSpan; ++j)
            amax = max(amax, magnitude_bits(v[b][j]));
    }
    amax = block_max(amax, words);
    const bool ok = amax < kInfinityBits;
    const Quantizer quantizer(ok ? amax : 0U);
    const Coder coder{quantizer.inverse};
#pragma unroll
    for (int b = 0; b < kBlocks; ++b) {
        if (first + b * kBlock >= k) break;
#pragma unroll
        for (int j = 0; j < kSpan; ++j)
            codes[first + b * kBlock + j * kWarpLanes] = static_cast<std::int8_t>(coder(v[b][j]));
    }
    if (thread != 0) return;
    scale = ok ? quantizer.scale : NAN;
    if (!ok && blockIdx.x == 0) *failed = 1;  // ERR-1
}

/// o of a token from the states of its chunks (ATT-10, ATT-11), to codes (QNT-2).
template <int kRounds>
__device__ void quantize_attention(const LayersView& view, const Visible& visible, int t,
                                   std::int8_t* codes, std::uint32_t (&words)[kWarps], float& scale,
                                   std::uint8_t* failed) {
    const int thread = static_cast<int>(threadIdx.x);
    const int k = view.n_heads * kDim;
    const int n_chunks = visible.last_chunk() - visible.first_chunk() + 1;
    float v[kRounds][kMine];
    std::uint32_t amax = 0;
    bool fine = true;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int first = round * kRound + kMine * thread;
        // Values that are not set on some path would keep their registers through all layers.
#pragma unroll
        for (float& value : v[round])
            value = 0.0F;
        if (first >= k) continue;
        const int head = t * view.n_heads + first / kDim;
        const float* from =
            view.states + static_cast<std::size_t>(head) * view.attention.n_chunks * kState;
        State<kMine> total;
        bool ok = true;
#pragma unroll 1
        for (int chunk = 0; chunk < n_chunks; ++chunk, from += kState) {
            State<kMine> state;
            load_16(from + first % kDim, state.o);
            const float4 rest = __ldcg(reinterpret_cast<const float4*>(from + kDim));
            state.l = rest.x;
            state.m = __float_as_int(rest.y);
            ok = ok && __float_as_int(rest.z) != 0;
            state.empty = false;
            join_chunk(state, total);
        }
        const float r = mul(divide(1.0F, total.l), 65536.0F);
        fine = fine && ok;
#pragma unroll
        for (int j = 0; j < kMine; ++j) {
            v[round][j] = ok ? mul(total.o[j], r) : 0.0F;  // ERR-2
            amax = max(amax, magnitude_bits(v[round][j]));
        }
    }
    amax = block_max(amax, words);
    const Quantizer quantizer(amax < kInfinityBits ? amax : 0U);
    const Coder coder{quantizer.inverse};
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
        const int first = round * kRound + kMine * thread;
        if (first >= k) continue;
        std::uint32_t packed[kMine / 4] = {};
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            packed[j / 4] |= coder(v[round][j]) << (j % 4 * 8);
        *reinterpret_cast<uint4*>(codes + first) = {packed[0], packed[1], packed[2], packed[3]};
    }
    const bool bad = !fine || (amax >= kInfinityBits && thread == 0);
    if (bad && blockIdx.x == 0) *failed = 1;
    if (thread == 0) scale = amax < kInfinityBits ? quantizer.scale : NAN;
}

#endif

}  // namespace etalon::backend::cuda::layers

// SPDX-License-Identifier: Apache-2.0
// The codes of decode_layers.cu: what the blocks read of h, of the heads and of SwiGLU becomes the
// input of the next matrix (spec NRM, SUM-1, ROT-3, QNT-2, ERR-1).
#pragma once

#include "backend/cuda/sm80/attention_decode.cuh"
#include "backend/cuda/sm90/layers_packets.cuh"

namespace etalon::backend::cuda::layers {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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
    const int thread = own_thread();
    if (thread % kWarpLanes == 0) words[thread / kWarpLanes] = value;
    sync();
#pragma unroll
    for (const std::uint32_t word : words)
        value = max(value, word);
    return value;
}

/// Lanes of SUM-1 of h from its packets, by kSquaresThreads threads: of each 256 elements a thread
/// has those of one packet, which are the next of up to three lanes.
__device__ inline void square_lanes(const Packet* h, int k, std::uint32_t turn, int thread,
                                    float (&lanes)[kLanes]) {
    static_assert(kSquaresThreads * kUnit == kLanes * kUnitPackets);
    constexpr int kAtOnce = 4;
    const int n = k / kLanes;
    float sums[3] = {};
#pragma unroll 1
    for (int begin = 0; begin < n; begin += kAtOnce) {
        const Packet* from = h + begin * kSquaresThreads + thread;
        Packet packets[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            packets[j] = {{0.0F, 0.0F, 0.0F}, turn};  // squares of +0 behind k change no bit
            if (begin + j < n) packets[j] = packet_load(from + j * kSquaresThreads);
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            packet_wait(from + j * kSquaresThreads, turn, packets[j]);
#pragma unroll
            for (int i = 0; i < 3; ++i)
                sums[i] = fused(packets[j].v[i], packets[j].v[i], sums[i]);
        }
    }
    const Elements place(thread);
#pragma unroll
    for (int i = 0; i < 3; ++i) {
        if (i < place.n) lanes[place.first + i] = sums[i];
    }
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
    return cuda::norm_scale(ss, k, eps);
}

/// h to codes: the packets `z` have w h after the strides of a unit (NRM-2, ROT-3, QNT-2). `codes`
/// has room for a round of floats, too; `words` are the largest magnitudes of the warps.
template <int kRounds>
__device__ void norm_quantize(const Packet* z, std::uint32_t turn, int k, int n_bits,
                              std::int8_t* codes, std::uint32_t (&words)[kWarps]) {
    const int thread = own_thread();
    auto* room = reinterpret_cast<float*>(codes);
    const int own = (thread >> 4 << 8) | (thread & 15);
    MyPackets<kRounds> mine;
    mine.load(z, k / kUnit * kUnitPackets, turn);
    float v[kRounds][kMine];
    std::uint32_t amax = 0;
#pragma unroll
    for (int round = 0; round < kRounds; ++round) {
#pragma unroll
        for (float& value : v[round])
            value = 0.0F;
        if (round * kRound >= k) continue;
        if (round > 0) sync();
#pragma unroll
        for (int j = 0; j < kMinePackets; ++j) {
            const Elements place(mine.number(0, j));
#pragma unroll
            for (int i = 0; i < 3; ++i) {
                if (i < place.n) room[place_of(place.first + i)] = mine.packets[round][j].v[i];
            }
        }
        sync();
        if (round * kRound + own < k) {
#pragma unroll
            for (int j = 0; j < kMine; ++j)
                v[round][j] = room[place_of(own) + place_of(16) * j];
        }
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
    const int thread = own_thread();
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

/// o of a token from its packets to codes (QNT-2).
template <int kRounds>
__device__ void quantize_attention(const Packet* o, std::uint32_t turn, int k, std::int8_t* codes,
                                   std::uint32_t (&words)[kWarps], float& scale,
                                   std::uint8_t* failed) {
    const int n_packets = k / kUnit * kUnitPackets;
    MyPackets<kRounds> mine;
    mine.load(o, n_packets, turn);
    std::uint32_t amax = 0;
    const auto each = [&](const auto& work) {
#pragma unroll
        for (int round = 0; round < kRounds; ++round) {
#pragma unroll
            for (int j = 0; j < kMinePackets; ++j) {
                const int number = mine.number(round, j);
                const Elements place(number);
#pragma unroll
                for (int i = 0; i < 3; ++i) {
                    if (number < n_packets && i < place.n)
                        work(place.first + i, mine.packets[round][j].v[i]);
                }
            }
        }
    };
    each([&](int, float value) { amax = max(amax, magnitude_bits(value)); });
    amax = block_max(amax, words);
    const bool ok = amax < kInfinityBits;
    const Quantizer quantizer(ok ? amax : 0U);
    const Coder coder{quantizer.inverse};
    each([&](int at, float value) { codes[at] = static_cast<std::int8_t>(coder(value)); });
    if (own_thread() != 0) return;
    scale = ok ? quantizer.scale : NAN;
    if (!ok && blockIdx.x == 0) *failed = 1;  // ERR-1
}

#endif

}  // namespace etalon::backend::cuda::layers

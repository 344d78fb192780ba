// SPDX-License-Identifier: Apache-2.0
// Attention of 16 queries over one page of 64 keys by a warp, on the integer tensor cores (spec
// ATT-4 to ATT-9, ERR-2). Shared by the kernels for prompts and for generated tokens.
//
// A thread with r = lane / 4 and c = lane % 4 holds queries r and r + 8. Of the keys it holds the
// slots 16 p + 4 c + i, p and i < 4: products come out of the tensor cores where they go in again
// as weights of the values, four successive slots in a register. Which column of a product is which
// slot is free (each is a sum of its own), and so is the order of K (integer sums have none).
// Example: thread 6 (r = 1, c = 2) holds for queries 1 and 9 the slots 8 to 11, 24 to 27, ...
#pragma once

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/kv_address.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/mma.cuh"

namespace etalon::backend::cuda {

inline constexpr float kMaxAbsExponent = 0x1p20F;  // ERR-2
inline constexpr int kTileQueries = 16;
inline constexpr int kSlotRuns = 4;  ///< runs of 4 slots that a thread holds
inline constexpr int kRunSlots = 4;
inline constexpr int kMySlots = kSlotRuns * kRunSlots;

/// 2^(from - to), 0 below 2^-64 (ATT-9).
__device__ inline float join_factor(int from, int to) {
    return from - to < -64 ? 0.0F : power_of_two(from - to);
}

/// The visible positions of a query (ATT-1).
struct Visible {
    int first;
    int last;

    __device__ Visible(std::int32_t position, int window)
        : first(window > 0 && position - window + 1 > 0 ? position - window + 1 : 0),
          last(position) {}
    __device__ int first_chunk() const { return first / (kPageSlots * kChunkPages); }
    __device__ int last_chunk() const { return last / (kPageSlots * kChunkPages); }
};

/// Slots [low, high] of a page that a query sees; none where high < low.
struct Slots {
    int low;
    int high;

    __device__ Slots(const Visible& visible, int page)
        : low(max(visible.first - page * kPageSlots, 0)),
          high(min(visible.last - page * kPageSlots, kPageSlots - 1)) {}
    __device__ bool any() const { return low <= high; }
    __device__ bool all() const { return low == 0 && high == kPageSlots - 1; }
    __device__ bool has(int slot) const { return slot >= low && slot <= high; }
};

/// What a page gives one query beside A_b (ATT-5 to ATT-7).
struct PageSums {
    int m = 0;
    int e = 0;
    int l = 0;
    bool any = true;  ///< the query sees a key of the page
    bool ok = true;   ///< false: ERR-2
};

/// W of a thread's slots as two planes of bytes: W = low + 256 high.
struct WeightPlanes {
    std::uint32_t low[kSlotRuns];
    std::uint32_t high[kSlotRuns];
};

/// The slot of column n of product `tile`, n = lane / 4 (the picture above).
__device__ inline int key_slot(int tile, int n) {
    return tile / 2 * 16 + n / 2 * 4 + tile % 2 * 2 + n % 2;
}

/// q . k: dots[2 p + i / 2][i % 2] is that of query r with slot 16 p + 4 c + i, dots[..][2 + i % 2]
/// that of query r + 8. `queries(row, run)` gives a 16-byte run of query r or r + 8 (row 0 or 1),
/// `keys(run, slot)` one of a key. Queries are read anew for each page: registers are short.
template <int kGroups, typename Queries, typename Keys>
__device__ inline void page_dots(const Queries& queries, const Keys& keys, int lane,
                                 int (&dots)[8][4]) {
#pragma unroll
    for (int g = 0; g < kGroups; ++g) {
        const int run = 4 * g + lane % 4;
        const int4 q = queries(0, run);
        const int4 other = queries(1, run);
#pragma unroll
        for (int tile = 0; tile < 8; ++tile) {
            const int4 k = keys(run, key_slot(tile, lane / 4));
            if (g == 0) {
                mma_i8_16x8x32_first(dots[tile], q.x, other.x, q.y, other.y, k.x, k.y);
            } else {
                mma_i8_16x8x32(dots[tile], q.x, other.x, q.y, other.y, k.x, k.y);
            }
            mma_i8_16x8x32(dots[tile], q.z, other.z, q.w, other.w, k.z, k.w);
        }
    }
}

/// The largest value of the four threads that share a query.
__device__ inline float query_max(float v) {
    v = fmaxf(v, __shfl_xor_sync(kFullWarp, v, 1));
    return fmaxf(v, __shfl_xor_sync(kFullWarp, v, 2));
}
__device__ inline std::uint32_t query_max(std::uint32_t v) {
    v = max(v, __shfl_xor_sync(kFullWarp, v, 1));
    return max(v, __shfl_xor_sync(kFullWarp, v, 2));
}
__device__ inline int query_sum(int v) {
    v += __shfl_xor_sync(kFullWarp, v, 1);
    return v + __shfl_xor_sync(kFullWarp, v, 2);
}

__device__ inline float component(const float4& v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

/// Bits of 1.5 * 2^23: float to integer by an addition leaves the integer in the low bits (FLT-4).
inline constexpr float kMagic = 0x1.8p23F;
inline constexpr std::uint32_t kMagicBits = 0x4B400000U;

/// p of ATT-6 from t - m: exp2 of a number in [-32, 1), as poly3(f) 2^n.
__device__ inline float weight_of(float t, float m) {
    const float d = fmaxf(sub(t, m), -32.0F);
    const float shifted = add(d, kMagic);
    const float p = exp2_poly3(sub(d, sub(shifted, kMagic)));
    // poly3 is in [.7, 1.5] and n in [-32, 1]: 2^n is an addition to the exponent. The low nine
    // bits of kMagicBits are zero, so that only n is left after the shift.
    return __uint_as_float(__float_as_uint(p) + (__float_as_uint(shifted) << 23));
}

/// t_j of kRows queries of a thread (r, and r + 8 when it is 2), and what their largest say.
template <int kRows>
struct PageScores {
    float t[kRows][kMySlots];
    float m[kRows];
    float to_unit[kRows];  ///< 2^-e in two factors: binary32 does not have every 2^-e
    float to_unit_rest[kRows];
};

/// ATT-4, ATT-5 and e of ATT-7. `c` is ATT-3 for each query; `key_scales(p)` and `value_scales(p)`
/// give those of slots 16 p + 4 c..+3. kPartial: some queries do not see all of the page; otherwise
/// `slots` is not read and all have the e of the first.
template <bool kPartial, int kRows, typename KeyScales, typename ValueScales>
__device__ inline void page_scores(const int (&dots)[8][4], const float (&c)[2],
                                   const KeyScales& key_scales, const ValueScales& value_scales,
                                   const Slots (&slots)[2], int lane, PageSums (&sums)[2],
                                   PageScores<kRows>& scores) {
    float largest[kRows];
    std::uint32_t scale_max[kRows] = {};
#pragma unroll
    for (float& value : largest)
        value = -INFINITY;
#pragma unroll
    for (int p = 0; p < kSlotRuns; ++p) {
        const float4 of_keys = key_scales(p);
        const float4 of_values = value_scales(p);
#pragma unroll
        for (int i = 0; i < kRunSlots; ++i) {
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
                const int dot = dots[2 * p + i / 2][2 * row + i % 2];
                const float x = mul(static_cast<float>(dot), component(of_keys, i));
                const float t = mul(x, c[row]);  // ATT-4
                scores.t[row][kRunSlots * p + i] = t;
                if (kPartial && !slots[row].has(16 * p + lane % 4 * kRunSlots + i)) continue;
                largest[row] = fmaxf(largest[row], t);
                if (row == 0 || kPartial)
                    scale_max[row] = max(scale_max[row], __float_as_uint(component(of_values, i)));
            }
        }
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row) {
        const float ceiling = ceilf(query_max(largest[row]));
        sums[row].any = !kPartial || slots[row].any();
        sums[row].ok = !sums[row].any || fabsf(ceiling) < kMaxAbsExponent;  // ERR-2
        scores.m[row] = sums[row].any && sums[row].ok ? ceiling : 0.0F;     // ATT-5
        sums[row].m = static_cast<int>(scores.m[row]);
        sums[row].e = sums[0].e;
        if (row > 0 && !kPartial) continue;
        const std::uint32_t bits = query_max(scale_max[row]);             // scales are not negative
        sums[row].e = bits > 0 ? static_cast<int>(bits >> 23) - 126 : 0;  // ATT-7
        const int half = -sums[row].e / 2;
        scores.to_unit[row] = power_of_two(half);
        scores.to_unit_rest[row] = power_of_two(-sums[row].e - half);
    }
}

/// ATT-6 and ATT-7: l_b and W from the scores.
template <bool kPartial, int kRows, typename ValueScales>
__device__ inline void page_weights(const PageScores<kRows>& scores,
                                    const ValueScales& value_scales, const Slots (&slots)[2],
                                    int lane, PageSums (&sums)[2], WeightPlanes (&weights)[2]) {
    std::uint32_t l[kRows] = {};
#pragma unroll
    for (int p = 0; p < kSlotRuns; ++p) {
        const float4 of_values = value_scales(p);
        std::uint32_t w[kRows][kRunSlots];
#pragma unroll
        for (int i = 0; i < kRunSlots; ++i) {
            float unit = 0.0F;
#pragma unroll
            for (int row = 0; row < kRows; ++row) {
                if (row == 0 || kPartial)
                    unit = mul(mul(component(of_values, i), scores.to_unit[row]),
                               scores.to_unit_rest[row]);
                const float share = weight_of(scores.t[row][kRunSlots * p + i], scores.m[row]);
                // A product with a power of two is exact, or so small that the integer is 0.
                std::uint32_t count = __float_as_uint(fused(share, 65536.0F, kMagic));
                std::uint32_t bits = __float_as_uint(fused(mul(share, unit), 2048.0F, kMagic));
                if (kPartial && !slots[row].has(16 * p + lane % 4 * kRunSlots + i))
                    count = bits = kMagicBits;
                l[row] += count;
                w[row][i] = bits;  // W in the low 16 bits
            }
        }
#pragma unroll
        for (int row = 0; row < kRows; ++row) {
            const std::uint32_t first = __byte_perm(w[row][0], w[row][1], 0x5410);
            const std::uint32_t second = __byte_perm(w[row][2], w[row][3], 0x5410);
            weights[row].low[p] = __byte_perm(first, second, 0x6420);
            weights[row].high[p] = __byte_perm(first, second, 0x7531);
        }
    }
#pragma unroll
    for (int row = 0; row < kRows; ++row)
        sums[row].l = query_sum(static_cast<int>(l[row] - kMySlots * kMagicBits));
}

/// A_b of 32 elements of the values: a[j][0] is that of query r and element 8 c + j, a[j][1] of
/// element 8 c + 4 + j, a[j][2] and a[j][3] of query r + 8 (ATT-8). `values[p]` has elements
/// 4 (lane / 4)..+3 of slots 16 p + 4 c..+3, four slots a word.
__device__ inline void page_values(const WeightPlanes (&w)[2], const int4 (&values)[kSlotRuns],
                                   int (&a)[4][4]) {
    const auto word = [&](int p, int j) {
        return j == 0 ? values[p].x : j == 1 ? values[p].y : j == 2 ? values[p].z : values[p].w;
    };
#pragma unroll
    for (int j = 0; j < 4; ++j) {
        int low[4];
        int high[4];
        mma_u8i8_16x8x32_first(low, w[0].low[0], w[1].low[0], w[0].low[1], w[1].low[1], word(0, j),
                               word(1, j));
        mma_u8i8_16x8x32_first(high, w[0].high[0], w[1].high[0], w[0].high[1], w[1].high[1],
                               word(0, j), word(1, j));
        mma_u8i8_16x8x32(low, w[0].low[2], w[1].low[2], w[0].low[3], w[1].low[3], word(2, j),
                         word(3, j));
        mma_u8i8_16x8x32(high, w[0].high[2], w[1].high[2], w[0].high[3], w[1].high[3], word(2, j),
                         word(3, j));
#pragma unroll
        for (int i = 0; i < 4; ++i)
            a[j][i] = low[i] + (high[i] << 8);
    }
}

}  // namespace etalon::backend::cuda

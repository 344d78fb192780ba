// SPDX-License-Identifier: Apache-2.0
// The steps of a thread of attention_tile.cu between the products: scores, weights, and how pages
// and chunks join (spec ATT-4 to ATT-7, ATT-9 to ATT-11, ERR-2).
#pragma once

#include "backend/cuda/sm90/tile_pages.cuh"

namespace etalon::backend::cuda::tile {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// 2^-abs(x), 0 below 2^-64 and for NaN; x an integer, abs(x) <= 2^21, or infinite (ATT-9).
__device__ inline float join_factor(float x) {
    const std::uint32_t n = __float_as_uint(sub(kMagic, fabsf(x))) << 23;
    return fabsf(x) <= 64.0F ? __uint_as_float(n + 0x3F800000U) : 0.0F;
}

/// Running result of the thread's two queries over the pages of a chunk, or over chunks; m is
/// -infinity where there is none yet.
struct Join {
    float m[2] = {-INFINITY, -INFINITY};
    float l[2] = {};
};

/// What a page gives the two queries beside A_b (ATT-5 to ATT-7).
struct Sums {
    float m[2];
    float base[2];  // 2^(e - 11)
    int l[2];       // of the thread's slots
    int other[2];   // of other threads
    unsigned seen;  // bits 0 and 1: the query sees a key of the page; bit 2: one of the warp's does
};

/// Slots of a page that a query sees.
struct Mask {
    std::uint64_t bits;

    __device__ Mask(int first, int last, int page) {
        const int low = max(first - page * kPageSlots, 0);
        const int high = min(last - page * kPageSlots, kPageSlots - 1);
        const std::uint64_t from = ~std::uint64_t{0} << (low & 63);
        const std::uint64_t to = ~std::uint64_t{0} >> (63 - (high & 63));
        bits = low <= high ? from & to : 0;
    }
};

/// ATT-4, and the largest t of the thread's slots. The products become the bits of t: the sums of
/// wgmma stay in their registers. `keys` are the scales of the thread's slots.
__device__ inline void score_page(int (&dots)[32], const float (&c)[2],
                                  const float4 (&keys)[kScaleRun / 4], float (&largest)[2]) {
    float of_half[2][2] = {{-INFINITY, -INFINITY}, {-INFINITY, -INFINITY}};
#pragma unroll
    for (int j = 0; j < 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int at = 4 * j + i;
            const int row = i / 2;
            const float x =
                mul(static_cast<float>(dots[at]), component(keys[j / 2], j % 2 * 2 + i % 2));
            const float t = mul(x, c[row]);
            dots[at] = __float_as_int(t);
            of_half[row][i % 2] = fmaxf(of_half[row][i % 2], t);
        }
    }
    largest[0] = fmaxf(of_half[0][0], of_half[0][1]);
    largest[1] = fmaxf(of_half[1][0], of_half[1][1]);
}

/// Where some queries do not see all of the page: t of the others' slots becomes -infinity, so that
/// their weights are 0.
__device__ inline void mask_page(int (&dots)[32], const Mask (&masks)[2], int lane,
                                 float (&largest)[2]) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const std::uint64_t mine = masks[row].bits >> lane % 4 * 2;
        const std::uint32_t words[2] = {static_cast<std::uint32_t>(mine),
                                        static_cast<std::uint32_t>(mine >> 32)};
        largest[row] = -INFINITY;
#pragma unroll
        for (int j = 0; j < 8; ++j) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                int& t = dots[4 * j + 2 * row + i];
                if ((words[j / 4] >> (j % 4 * 8 + i) & 1) == 0) t = __float_as_int(-INFINITY);
                largest[row] = fmaxf(largest[row], __int_as_float(t));
            }
        }
    }
}

/// ATT-5 from the largest t; false: ERR-2.
__device__ inline bool exponent_of(float largest, float& m) {
    const float ceiling = ceilf(largest);
    const bool good = fabsf(ceiling) < kMaxAbsExponent;
    m = good ? ceiling : 0.0F;
    return good;
}

/// e of ATT-7 for a query that sees some slots.
__device__ inline int exponent_of_scales(const float* of_values, std::uint64_t mask, int lane) {
    std::uint32_t largest = 0;
    const std::uint64_t mine = mask >> lane % 4 * 2;
#pragma unroll 1
    for (int k = 0; k < kScaleRun; ++k) {
        if ((mine >> (k / 2 * 8 + k % 2) & 1) != 0)
            largest = max(largest, __float_as_uint(of_values[k]));
    }
    const std::uint32_t bits = query_max(largest);
    return bits > 0 ? static_cast<int>(bits >> 23) - 126 : 0;
}

/// ATT-6 and ATT-7; weights are in the order of wgmma_f16. `units(p, row)` are scale_v 2^-e 2048 of
/// slots 4 p..+3 of the thread.
template <typename Units>
__device__ inline void weigh_page(const int (&t)[32], const Units& units,
                                  std::uint32_t (&weights)[4][4], Sums& sums) {
    std::uint32_t l[2] = {};
#pragma unroll
    for (int p = 0; p < kScaleRun / 4; ++p) {
        std::uint32_t w[2][4];
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const float4 unit = units(p, row);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int at = 4 * (2 * p + i / 2) + 2 * row + i % 2;
                const float share = weight_of(__int_as_float(t[at]), sums.m[row]);
                l[row] += __float_as_uint(fused(share, 65536.0F, kMagic));
                // 2048 times a product is exact, or so small that the integer is 0.
                w[row][i] = __float_as_uint(add(mul(share, component(unit, i)), kMagic));
            }
        }
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            weights[p][row] = __byte_perm(w[row][0], w[row][1], 0x5410);  // W: the low 16 bits
            weights[p][2 + row] = __byte_perm(w[row][2], w[row][3], 0x5410);
        }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row)
        sums.l[row] = static_cast<int>(l[row] - kScaleRun * kMagicBits);
}

/// How A_b joins the sums of a warp's queries (ATT-9).
struct Step {
    static constexpr unsigned kUsual = 8;  // all see the page, and the unit is not large
    float s[2];
    float unit[2];     // u 2^(e - 11)
    unsigned how = 0;  // Sums::seen, and kUsual; 0: no query of the warp sees the page
};
inline constexpr float kUnitMax = 0x1p100F;  // beyond it 2^24 times the unit may be infinite
inline constexpr float kHalfUnit = 0x1p24F;  // 1 over the unit of the sums of binary16
static_assert(kUnitMax * kHalfUnit < 0x1p127F);

/// ATT-9 for M and L. A first page is copied by s = 0, u = 1: the sums before it are 0. m of a
/// query that does not see the page is -infinity: s = 1, u = 0. `page.l` are sums of the four
/// threads.
__device__ inline Step join_page(const Sums& page, Join& chunk) {
    Step step;
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const float factor = join_factor(sub(chunk.m[row], page.m[row]));
        const bool larger = page.m[row] > chunk.m[row];
        step.s[row] = larger ? factor : 1.0F;
        const float u = larger ? 1.0F : factor;
        step.unit[row] = mul(u, page.base[row]);
        chunk.l[row] = add(mul(chunk.l[row], step.s[row]), mul(static_cast<float>(page.l[row]), u));
        chunk.m[row] = fmaxf(chunk.m[row], page.m[row]);
    }
    const bool usual = (page.seen & 3) == 3 && fmaxf(step.unit[0], step.unit[1]) <= kUnitMax;
    step.how = __all_sync(kFullWarp, usual) ? Step::kUsual : page.seen;
    return step;
}

/// ATT-9 for O.
template <int kSums>
__device__ inline void add_page(const float (&a)[kSums], const Step& step, float (&o)[kSums]) {
    if (step.how == Step::kUsual) {
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            if (!__any_sync(kFullWarp, step.s[row] != 1.0F)) continue;
#pragma unroll
            for (int i = 0; i < kSums; ++i) {
                if (i / 2 % 2 == row) o[i] = mul(o[i], step.s[row]);
            }
        }
        const float unit[2] = {mul(step.unit[0], kHalfUnit), mul(step.unit[1], kHalfUnit)};
#pragma unroll
        for (int i = 0; i < kSums; ++i)
            o[i] = fused(a[i], unit[i / 2 % 2], o[i]);
    } else if (step.how != 0) {
#pragma unroll
        for (int i = 0; i < kSums; ++i) {
            const int row = i / 2 % 2;
            const float joined =
                fused(mul(a[i], kHalfUnit), step.unit[row], mul(o[i], step.s[row]));
            o[i] = (step.how >> row & 1) != 0 ? joined : o[i];
        }
    }
}

/// Sums over the four threads that share the queries, in two steps; what comes from other threads
/// is under way between them.
__device__ inline void fetch_sums(Sums& sums, int distance) {
    sums.other[0] = __shfl_xor_sync(kFullWarp, sums.l[0], distance);
    sums.other[1] = __shfl_xor_sync(kFullWarp, sums.l[1], distance);
}
__device__ inline void add_sums(Sums& sums) {
    sums.l[0] += sums.other[0];
    sums.l[1] += sums.other[1];
}

/// ATT-10; `total` is the thread's column. At the end of the pages the sum is in o, else there.
template <int kSums>
__device__ void join_chunk(Join& chunk, float4& joined, bool end, float4* total,
                           float (&o)[kSums]) {
    Join all;
    all.m[0] = joined.x;
    all.m[1] = joined.y;
    all.l[0] = joined.z;
    all.l[1] = joined.w;
    float s[2];
    float u[2];
    bool take[2];
    bool first[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        take[row] = chunk.m[row] != -INFINITY;
        first[row] = all.m[row] == -INFINITY;
        const float m = fmaxf(all.m[row], chunk.m[row]);
        s[row] = join_factor(sub(all.m[row], m));
        u[row] = join_factor(sub(chunk.m[row], m));
        if (take[row]) {
            all.l[row] =
                first[row] ? chunk.l[row] : add(mul(all.l[row], s[row]), mul(chunk.l[row], u[row]));
            all.m[row] = m;
        }
        chunk.m[row] = -INFINITY;
        chunk.l[row] = 0.0F;
    }
    joined = {all.m[0], all.m[1], all.l[0], all.l[1]};
    if (end && __all_sync(kFullWarp, first[0] && first[1])) return;
#pragma unroll
    for (int i = 0; i < kSums; i += 4) {
        float4& mine = total[i / 4 * kWorkThreads];
        const float4 before = mine;
        const auto sum = [&](int k) {
            const int row = k / 2;
            if (first[row]) return o[i + k];
            return take[row] ? fused(o[i + k], u[row], mul(component(before, k), s[row]))
                             : component(before, k);
        };
        const float4 now = {sum(0), sum(1), sum(2), sum(3)};
        if (!end) mine = now;
        o[i] = end ? now.x : 0.0F;
        o[i + 1] = end ? now.y : 0.0F;
        o[i + 2] = end ? now.z : 0.0F;
        o[i + 3] = end ? now.w : 0.0F;
    }
}

/// ATT-11, or zeros and the flag where an exponent was out of range (ERR-2).
template <int kSums>
__device__ void store(const int (&out)[2], const float (&l)[2], const bool (&ok)[2],
                      const float (&o)[kSums], int n_heads, int lane, float* to,
                      std::uint8_t* failed) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        if (out[row] < 0) continue;
        const float r = mul(divide(1.0F, l[row]), 65536.0F);
        auto* mine =
            reinterpret_cast<float2*>(to + static_cast<std::size_t>(out[row]) * (2 * kSums)) +
            lane % 4;
#pragma unroll
        for (int i = 0; i < kSums / 4; ++i) {
            const float2 pair = {mul(o[4 * i + 2 * row], r), mul(o[4 * i + 2 * row + 1], r)};
            mine[4 * i] = ok[row] ? pair : float2{0.0F, 0.0F};
        }
        if (!ok[row]) failed[out[row] / n_heads] = 1;
    }
}

#endif

}  // namespace etalon::backend::cuda::tile

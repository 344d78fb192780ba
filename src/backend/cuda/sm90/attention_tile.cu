// SPDX-License-Identifier: Apache-2.0
// Attention of prompts on the tensor cores of sm_90a: 128 queries of the heads of one KV head over
// pages that the copy engine brings (spec ATT-1 to ATT-12, ERR-2).
//
// Values are multiplied in binary16: the bits of the integer W, at most 2048, are those of the
// binary16 number W 2^-24, codes of values are binary16 numbers, and the sums are integers below
// 2^24 times 2^-24, which binary32 has. That the tensor cores lose no bit of them is not
// documented: launch_half_products_sm90() tries it.
#include <algorithm>
#include <cstddef>
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/ptx/wgmma.cuh"
#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm90/half_values.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kGroups = 2;          // that multiply; one more copies and prepares
constexpr int kThreads = (kGroups + 1) * kGroupThreads;
constexpr int kGroupRows = 64;  // queries
constexpr int kRows = kGroups * kGroupRows;
[[maybe_unused]] constexpr int kWorkThreads = kGroups * kGroupThreads;
[[maybe_unused]] constexpr int kWorkWarps = kWorkThreads / kWarpLanes;
[[maybe_unused]] constexpr int kPrepareRegisters = 40;
[[maybe_unused]] constexpr int kWorkRegisters = 232;
constexpr int kPageStages = 3;
constexpr int kRawStages = 3;
constexpr int kRowStages = 2;
[[maybe_unused]] constexpr int kAhead = 2;  // pages that are under way beyond the one prepared
[[maybe_unused]] constexpr int kPrepareBarrier = 1;
// A thread of the products has the slots 8 j + 2 c + i, c = lane % 4, j < 8, i < 2; scales lie so
// that these follow each other, and those of each c in other banks.
constexpr int kScaleRun = 16;
constexpr int kScaleStride = kScaleRun + 4;

/// Scales of a page, [c][2 j + i].
struct Scales {
    float keys[4 * kScaleStride];
    float values[4 * kScaleStride];
    float units[4 * kScaleStride];  // scale_v 2^-e 2048 where a query sees the whole page
    float base[2];                  // 2^(e - 11) for these
    std::uint32_t top[2];           // slots whose scale alone makes that e
};

/// Values and scales of a page as they lie in the cache.
template <int kDim>
struct Raw {
    std::uint32_t values[kPageSlots / kValueRun * kDim];
    float key_scales[kPageSlots];
    float value_scales[kPageSlots];
};

/// A page as it is multiplied.
template <int kDim>
struct Page {
    int4 keys[kPageSlots * kDim / 16];   // [run][slot]
    int4 values[kPageSlots * kDim / 8];  // binary16 [slot / 8][dim][8 slots]
    Scales scales;
};

/// The queries of a block, and what they see. Rows without a query repeat the last token's.
template <int kDim>
struct Rows {
    int4 q[kRows * kDim / 16];  // [run][row]
    int out[kRows];             // row of the result; -1: none
    float c[kRows];             // ATT-3
    int first[kRows];
    int last[kRows];
    int bad[kRows];  // an exponent was out of range (ERR-2)
    int first_page;
    int last_page;
};

/// What a thread reads in each step: registers are short.
struct alignas(16) Mine {
    float c[2];  // ATT-3 of its queries
    // Pages that the queries of its warp see all of.
    int whole_first;
    int whole_last;
};

template <int kDim>
struct Shared {
    Page<kDim> pages[kPageStages];
    Rows<kDim> rows[kRowStages];
    float4 total[kDim / 8 * kWorkThreads];  // sum of chunks, [i / 4][thread]
    float4 joined[kWorkThreads];            // and what belongs to it: Join
    Mine mine[kWorkThreads];
    Raw<kDim> raw[kRawStages];
    Barrier page_there[kPageStages];
    Barrier page_read[kPageStages];
    Barrier rows_there[kRowStages];
    Barrier rows_read[kRowStages];
    Barrier raw_there[kRawStages];
};
static_assert(sizeof(Shared<128>) <= 227 * 1024, "shared memory of a block");

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A place in a ring of stages.
template <int kStages>
struct Place {
    int stage = 0;
    int parity = 0;

    __device__ void next() {
        if (++stage < kStages) return;
        stage = 0;
        parity ^= 1;
    }
};

/// What all blocks share, and which parts are a block's: those with the longest contexts come
/// first, and blocks take them forth and back, so that all have about the same work.
struct Work {
    const BatchView& batch;
    const QueriesView& queries;
    const KvView& kv;
    const AttentionShape& shape;
    int n_heads;   // of a KV head
    int n_splits;  // of a tile
    int n_tokens;  // of a split
    int n_items;

    /// Item `round` of this block, n_items or more when there is none.
    __device__ int item(int round) const {
        const int n = static_cast<int>(gridDim.x);
        const int b = static_cast<int>(blockIdx.x);
        return round * n + (round % 2 == 0 ? b : n - 1 - b);
    }
};

/// The tokens and pages of an item; no tokens: none.
struct Item {
    int token;
    int n_tokens;
    int kv_head;
    int first_page;
    int last_page;

    __device__ Item(const Work& work, int index) {
        kv_head = index % work.kv.n_kv_heads;
        const int rest = index / work.kv.n_kv_heads;
        const int split = work.n_splits - 1 - rest % work.n_splits;
        const int2 tile =
            reinterpret_cast<const int2*>(work.batch.wide_tiles)[rest / work.n_splits];
        token = tile.x + split * work.n_tokens;
        n_tokens = min(work.n_tokens, tile.y - split * work.n_tokens);
        if (n_tokens <= 0) return;
        const int window = work.shape.sliding_window;
        first_page = Visible(work.batch.positions[token], window).first / kPageSlots;
        last_page = Visible(work.batch.positions[token + n_tokens - 1], window).last / kPageSlots;
    }
};

/// Goes over the pages of all items of the block; of one thread, which copies them.
struct Source {
    int round = 0;
    int page = 0;
    int last_page = -1;
    int kv_head = 0;
    const std::int32_t* table = nullptr;
    std::int32_t number = 0;  // of the page: read one step ahead
    bool any = true;

    __device__ void open(const Work& work) {
        for (;; ++round) {
            const int index = work.item(round);
            if (index >= work.n_items) {
                // The last round is not full, and the other direction may still hold one.
                any = false;
                return;
            }
            const Item item(work, index);
            if (item.n_tokens <= 0) continue;
            page = item.first_page;
            last_page = item.last_page;
            kv_head = item.kv_head;
            table = work.batch.pages + work.batch.table_begin[work.batch.sequence_of[item.token]];
            number = table[page];
            return;
        }
    }
    __device__ void next(const Work& work) {
        if (page < last_page) {
            number = table[++page];
        } else {
            ++round;
            open(work);
        }
    }
};

/// Starts the copy of the values and scales of a page.
template <int kDim>
__device__ void copy_values(Raw<kDim>& raw, const KvView& kv, std::size_t index, Barrier& there) {
    constexpr int kBytes = kPageSlots * kDim;
    constexpr int kScaleBytes = kPageSlots * static_cast<int>(sizeof(float));
    barrier_arrive_expect(there, sizeof(Raw<kDim>));
    copy_bytes(raw.values, kv.values + index * kBytes, kBytes, there);
    copy_bytes(raw.key_scales, kv.key_scales + index * kPageSlots, kScaleBytes, there);
    copy_bytes(raw.value_scales, kv.value_scales + index * kPageSlots, kScaleBytes, there);
}

/// Scales of a page in the order of the threads; of one warp.
template <int kDim>
__device__ void prepare_scales(const Raw<kDim>& raw, Scales& to, int lane) {
    const float2 of_keys = reinterpret_cast<const float2*>(raw.key_scales)[lane];
    const float2 of_values = reinterpret_cast<const float2*>(raw.value_scales)[lane];
    const int at = lane % 4 * kScaleStride + lane / 4 * 2;
    *reinterpret_cast<float2*>(to.keys + at) = of_keys;
    *reinterpret_cast<float2*>(to.values + at) = of_values;
    // ATT-7; scales are not negative, their bits are in their order.
    const std::uint32_t bits = __reduce_max_sync(
        kFullWarp, max(__float_as_uint(of_values.x), __float_as_uint(of_values.y)));
    const int e = bits > 0 ? static_cast<int>(bits >> 23) - 126 : 0;
    const int half = -e / 2;
    const float to_unit = power_of_two(half);
    const float to_unit_rest = power_of_two(-e - half);
    const auto unit = [&](float scale) {
        return mul(mul(mul(scale, to_unit), to_unit_rest), 2048.0F);
    };
    *reinterpret_cast<float2*>(to.units + at) = {unit(of_values.x), unit(of_values.y)};
    // Slots 2 lane and the next, as the bits of 64.
    const auto makes = [&](float scale) {
        return (__float_as_uint(scale) >> 23) == (bits >> 23) ? 1U : 0U;
    };
    const std::uint32_t pair = makes(of_values.x) | makes(of_values.y) << 1;
    const std::uint32_t mine = pair << lane % 16 * 2;
    const std::uint32_t low = __reduce_or_sync(kFullWarp, lane < 16 ? mine : 0);
    const std::uint32_t high = __reduce_or_sync(kFullWarp, lane < 16 ? 0 : mine);
    if (lane == 0) {
        to.base[0] = power_of_two(e - 11);
        to.top[0] = low;
        to.top[1] = high;
    }
}

/// The queries of an item to shared memory; a thread has a row.
template <int kDim>
__device__ void prepare_rows(Rows<kDim>& rows, const Work& work, const Item& item, int row) {
    const int mine = row / work.n_heads;
    const bool valid = mine < item.n_tokens;
    const int token = item.token + min(mine, item.n_tokens - 1);
    const int head = item.kv_head * work.n_heads + row % work.n_heads;  // ATT-12
    const int index = token * work.queries.n_heads + head;
    const auto* from = reinterpret_cast<const int4*>(work.queries.q) +
                       static_cast<std::size_t>(index) * (kDim / 16);
#pragma unroll
    for (int run = 0; run < kDim / 16; ++run)
        copy_async_16(&rows.q[run * kRows + row], from + run);
    copy_async_commit();
    const Visible visible(work.batch.positions[token], work.shape.sliding_window);
    rows.out[row] = valid ? index : -1;
    rows.c[row] = mul(work.queries.scales[index], work.shape.constant);  // ATT-3
    rows.first[row] = visible.first;
    rows.last[row] = visible.last;
    rows.bad[row] = 0;
    if (row == 0) {
        rows.first_page = item.first_page;
        rows.last_page = item.last_page;
    }
    copy_async_wait<0>();
}

/// Values as binary16; of all threads.
template <int kDim>
__device__ void prepare_values(const Raw<kDim>& raw, int4* to, int thread) {
    constexpr int kAtOnce = 4;  // loads, ahead of the stores
#pragma unroll
    for (int i = thread; i < kPageSlots / 8 * kDim; i += kAtOnce * kGroupThreads) {
        std::uint32_t codes[kAtOnce][2];
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
            const int at = i + k * kGroupThreads;
            codes[k][0] = raw.values[at / kDim * 2 * kDim + at % kDim];
            codes[k][1] = raw.values[(at / kDim * 2 + 1) * kDim + at % kDim];
        }
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
            const uint2 low = halves_of(codes[k][0]);
            const uint2 high = halves_of(codes[k][1]);
            to[i + k * kGroupThreads] = {static_cast<int>(low.x), static_cast<int>(low.y),
                                         static_cast<int>(high.x), static_cast<int>(high.y)};
        }
    }
}

/// The warpgroup that copies pages and makes binary16 of their values.
template <int kDim>
__device__ void prepare(Shared<kDim>& shared, const Work& work) {
    constexpr int kBytes = kPageSlots * kDim;
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    const int lane = thread % kWarpLanes;
    const int warp = thread / kWarpLanes;
    const bool copies = thread == 0;
    // Of the thread that copies: values are under way kAhead pages before their keys.
    Source source;
    std::size_t indices[kAhead + 1] = {};
    Place<kRawStages> copied;
    const auto copy = [&](std::size_t& index) {
        if (!source.any) return;
        index = head_page(work.kv, work.shape.layer, source.number, source.kv_head);
        copy_values(shared.raw[copied.stage], work.kv, index, shared.raw_there[copied.stage]);
        copied.next();
        source.next(work);
    };
    if (copies) {
        source.open(work);
#pragma unroll
        for (int i = 0; i < kAhead; ++i)
            copy(indices[i]);
    }
    Place<kRawStages> raw_place;
    Place<kPageStages> place;
    Place<kRowStages> rows_place;
    for (int round = 0; work.item(round) < work.n_items; ++round) {
        const Item item(work, work.item(round));
        if (item.n_tokens <= 0) continue;
        barrier_wait(shared.rows_read[rows_place.stage], rows_place.parity ^ 1);
        prepare_rows(shared.rows[rows_place.stage], work, item, thread);
        shared_proxy_fence();
        barrier_arrive(shared.rows_there[rows_place.stage]);
        rows_place.next();
        for (int page = item.first_page; page <= item.last_page; ++page) {
            named_sync(kPrepareBarrier, kGroupThreads);  // the page before it is prepared
            Page<kDim>& to = shared.pages[place.stage];
            Barrier& there = shared.page_there[place.stage];
            if (copies) copy(indices[kAhead]);
            __syncwarp();
            barrier_wait(shared.page_read[place.stage], place.parity ^ 1);
            if (copies) {
                barrier_arrive_expect(there, kBytes);
                copy_bytes(to.keys, work.kv.keys + indices[0] * kBytes, kBytes, there);
#pragma unroll
                for (int i = 0; i < kAhead; ++i)
                    indices[i] = indices[i + 1];
            }
            __syncwarp();
            barrier_wait(shared.raw_there[raw_place.stage], raw_place.parity);
            const Raw<kDim>& raw = shared.raw[raw_place.stage];
            if (warp == 1) prepare_scales(raw, to.scales, lane);
            prepare_values(raw, to.values, thread);
            shared_proxy_fence();
            barrier_arrive(there);
            raw_place.next();
            place.next();
        }
    }
    barrier_wait(shared.rows_read[rows_place.stage], rows_place.parity ^ 1);
    if (thread == 0) shared.rows[rows_place.stage].last_page = -1;  // no more
    barrier_arrive(shared.rows_there[rows_place.stage]);
}

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
constexpr float kUnitMax = 0x1p100F;  // beyond it 2^24 times the unit may be infinite
constexpr float kHalfUnit = 0x1p24F;  // 1 over the unit of the sums of binary16
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

/// The warpgroups that multiply: 64 queries each.
template <int kDim>
__device__ void attend(Shared<kDim>& shared, const Work& work, float* out) {
    constexpr int kSums = kDim / 2;
    constexpr int kPageBytes = sizeof(Page<kDim>);
    const int thread = static_cast<int>(threadIdx.x) - kGroupThreads;
    const int group = thread / kGroupThreads;
    int lane = thread % kWarpLanes;
    const int warp_row = thread / kWarpLanes * 16;
    // Kept, because to find them again takes long.
    std::uint32_t base = shared_address(&shared);
    asm volatile("" : "+r"(base), "+r"(lane));
    const int first_row = warp_row + lane / 4;
    const std::uint32_t there = base + offsetof(Shared<kDim>, page_there);
    const std::uint32_t read = base + offsetof(Shared<kDim>, page_read);
    const std::uint32_t scales = base + offsetof(Shared<kDim>, pages) +
                                 offsetof(Page<kDim>, scales) +
                                 lane % 4 * kScaleStride * static_cast<int>(sizeof(float));
    std::uint32_t column = base + thread * static_cast<int>(sizeof(float4));  // of the thread
    asm volatile("" : "+r"(column));
    float4* total = shared.total + thread;
    float4& joined = shared.joined[thread];
    Place<kPageStages> place;
    Place<kRowStages> rows_place;
    const auto release = [&](std::uint32_t barrier) { barrier_arrive_warp(barrier, lane); };
    // Pages that the other warpgroup alone sees.
    const auto skip = [&](int n) {
#pragma unroll 1
        for (; n > 0; --n) {
            barrier_wait(there + 8 * place.stage, place.parity);
            release(read + 8 * place.stage);
            place.next();
        }
    };
#pragma unroll 1
    for (;; rows_place.next()) {
        barrier_wait(shared.rows_there[rows_place.stage], rows_place.parity);
        Rows<kDim>& rows = shared.rows[rows_place.stage];
        if (rows.last_page < 0) return;
        int page = rows.first[group * kGroupRows] / kPageSlots;
        const int last_page = rows.last[group * kGroupRows + kGroupRows - 1] / kPageSlots;
        shared.mine[thread] = {{rows.c[first_row], rows.c[first_row + 8]},
                               (rows.first[warp_row + 15] + kPageSlots - 1) / kPageSlots,
                               (rows.last[warp_row] + 1) / kPageSlots - 1};
        int tag = rows_place.stage << 8 | group << 12;
        asm volatile("" : "+r"(tag));
        skip(page - rows.first_page);
        float o[kSums];
#pragma unroll
        for (float& value : o)
            value = 0.0F;
        Join chunk;
        joined = {-INFINITY, -INFINITY, 0.0F, 0.0F};
        Sums sums;
        sums.seen = 0;
        std::uint32_t weights[4][4] = {};
        int before = -1;  // stage of the page before
        // In a step the keys of one page are multiplied, and the values of the page before it,
        // while the scores are computed. There is one more step than pages: the first and the last
        // multiply in vain, also with the page that they have.
#pragma unroll 1
        for (;; ++page) {
            const bool more = page <= last_page;
            const bool follows = before >= 0;
            // Made so that the compiler sees it to be the same in all threads.
            const std::uint32_t packed = __reduce_max_sync(
                kFullWarp, static_cast<std::uint32_t>((more ? place.stage : max(before, 0)) |
                                                      (follows ? before : place.stage) << 4 | tag));
            const std::uint32_t here = (packed & 15) * kPageBytes;
            if (more) barrier_wait(there + 8 * (packed & 15), place.parity);
            if (sums.seen != 0) {
                add_sums(sums);
                fetch_sums(sums, 2);
            }
            int dots[32];
            float a[kSums];
            const std::uint32_t uniform = shared_address(&shared);
            const std::uint32_t queries = wgmma_block(
                uniform + offsetof(Shared<kDim>, rows) +
                    (packed >> 8 & 15) * static_cast<std::uint32_t>(sizeof(Rows<kDim>)) +
                    (packed >> 12) * (kGroupRows * 16),
                kRows * 16);
            const std::uint32_t keys = wgmma_block(
                uniform + offsetof(Shared<kDim>, pages) + here + offsetof(Page<kDim>, keys),
                kPageSlots * 16);
            const std::uint32_t values =
                wgmma_block(uniform + offsetof(Shared<kDim>, pages) +
                                (packed >> 4 & 15) * kPageBytes + offsetof(Page<kDim>, values),
                            kDim * 16);
            wgmma_fence();
#pragma unroll
            for (int g = 0; g < kDim / 32; ++g)
                wgmma_i8(dots, wgmma_blocks(queries + 2 * g * kRows),
                         wgmma_blocks(keys + 2 * g * kPageSlots), g > 0 ? 1 : 0);
            wgmma_commit();
#pragma unroll
            for (int g = 0; g < 4; ++g)
                wgmma_f16(a, weights[g], wgmma_blocks(values + 2 * g * kDim), g > 0 ? 1 : 0);
            wgmma_commit();
            const float4 mine = load_shared_4(column + offsetof(Shared<kDim>, mine));
            Step step;
            if (sums.seen != 0) {
                add_sums(sums);
                step = join_page(sums, chunk);
            }
            const bool whole = page >= __float_as_int(mine.z) && page <= __float_as_int(mine.w);
            const float c[2] = {mine.x, mine.y};
            const bool part = !whole && more;
            sums.seen = whole ? 7 : part ? 4 : 0;
            float largest[2] = {};
            bool same_e = true;
            float4 key_scales[kScaleRun / 4];
#pragma unroll
            for (int p = 0; p < kScaleRun / 4; ++p)
                key_scales[p] =
                    load_shared_4(scales + here + offsetof(Scales, keys) + p * sizeof(float4));
            wgmma_wait<1>();
            if (more) score_page(dots, c, key_scales, largest);
            // The largest of the four threads that share the queries: under way while O is updated.
            float other[2] = {__shfl_xor_sync(kFullWarp, largest[0], 1),
                              __shfl_xor_sync(kFullWarp, largest[1], 1)};
            wgmma_wait<0>();
            if (follows) release(read + 8 * before);
#pragma unroll
            for (int row = 0; row < 2; ++row) {
                largest[row] = fmaxf(largest[row], other[row]);
                other[row] = __shfl_xor_sync(kFullWarp, largest[row], 2);
            }
            add_page(a, step, o);
            if (part) {
                const Mask masks[2] = {
                    Mask(rows.first[first_row], rows.last[first_row], page),
                    Mask(rows.first[first_row + 8], rows.last[first_row + 8], page)};
                mask_page(dots, masks, lane, largest);
#pragma unroll
                for (int row = 0; row < 2; ++row) {
                    largest[row] = fmaxf(largest[row], __shfl_xor_sync(kFullWarp, largest[row], 1));
                    other[row] = __shfl_xor_sync(kFullWarp, largest[row], 2);
                }
                const auto& top = shared.pages[place.stage].scales.top;
                const std::uint64_t makes = std::uint64_t{top[1]} << 32 | top[0];
#pragma unroll
                for (int row = 0; row < 2; ++row) {
                    if (masks[row].bits == 0) continue;
                    sums.seen |= 1U << row;
                    same_e = same_e && (masks[row].bits & makes) != 0;
                }
                same_e = __all_sync(kFullWarp, same_e);
            }
            before = place.stage;
            if (more) place.next();
            if (whole || part) {
#pragma unroll
                for (int row = 0; row < 2; ++row) {
                    const bool good = exponent_of(fmaxf(largest[row], other[row]), sums.m[row]);
                    if ((sums.seen >> row & 1) == 0) {
                        sums.m[row] = -INFINITY;
                    } else if (!good) {
                        rows.bad[first_row + 8 * row] = 1;
                    }
                }
                const Scales& of_page = shared.pages[before].scales;
                sums.base[0] = sums.base[1] = of_page.base[0];
                if (same_e) {
                    float4 units[kScaleRun / 4];
#pragma unroll
                    for (int p = 0; p < kScaleRun / 4; ++p)
                        units[p] = load_shared_4(scales + here + offsetof(Scales, units) +
                                                 p * sizeof(float4));
                    weigh_page(
                        dots, [&](int p, int) { return units[p]; }, weights, sums);
                } else {
                    const float* of_values = of_page.values + lane % 4 * kScaleStride;
                    float to_unit[2];
                    float to_unit_rest[2];
#pragma unroll
                    for (int row = 0; row < 2; ++row) {
                        const int r = first_row + 8 * row;
                        const Mask mask(rows.first[r], rows.last[r], page);
                        const int e = exponent_of_scales(of_values, mask.bits, lane);
                        const int half = -e / 2;
                        to_unit[row] = power_of_two(half);
                        to_unit_rest[row] = power_of_two(-e - half);
                        sums.base[row] = power_of_two(e - 11);
                    }
                    // Scales of slots that the query does not see may be larger than 2^e.
                    const auto unit = [&](float scale, int row) {
                        const float one = mul(mul(scale, to_unit[row]), to_unit_rest[row]);
                        return mul(fminf(one, 1.0F), 2048.0F);
                    };
                    weigh_page(
                        dots,
                        [&](int p, int row) {
                            const float4 v = reinterpret_cast<const float4*>(of_values)[p];
                            return float4{unit(v.x, row), unit(v.y, row), unit(v.z, row),
                                          unit(v.w, row)};
                        },
                        weights, sums);
                }
            }
            if (whole || part) fetch_sums(sums, 1);
            // Here, where few registers are in use.
            if (follows && (!more || page % kChunkPages == 0))
                join_chunk(chunk, joined, !more, total, o);
            if (!more) break;
        }
        const float l[2] = {joined.z, joined.w};
        const int out_row[2] = {rows.out[first_row], rows.out[first_row + 8]};
        const bool ok[2] = {rows.bad[first_row] == 0, rows.bad[first_row + 8] == 0};
        const int rest = rows.last_page - last_page;
        release(base + offsetof(Shared<kDim>, rows_read) + 8 * rows_place.stage);
        store(out_row, l, ok, o, work.queries.n_heads, lane, out, work.batch.failed);
        skip(rest);
    }
}

#endif

/// o = attention (ATT-1 to ATT-12).
///   in:  batch.wide_tiles: 128 or fewer successive tokens of a sequence each; queries int8
///        [T, n_heads, kDim] and scales; the cache; positions [T]
///   out: o binary32 [T, n_heads, kDim]; failed [T]
///   tile: 128 queries: the heads of one KV head for so many tokens; a warpgroup copies pages and
///         makes binary16 of values, two have 64 queries each; shared: 210 KB; a block a
///         multiprocessor, which goes on to the next tile
///   floor: about 20 instructions of the float pipes a token, head and visible key
///   supported: kDim 64 or 128, 1 to 8 query heads a KV head
template <int kDim>
__global__ void __launch_bounds__(kThreads, 1)
    attention_tile_sm90(BatchView batch, QueriesView queries, KvView kv, AttentionShape shape,
                        int n_splits, int n_tokens, float* out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ int4 bytes[];
    Shared<kDim>& shared = *reinterpret_cast<Shared<kDim>*>(bytes);
    if (threadIdx.x == 0) {
        for (int i = 0; i < kPageStages; ++i) {
            barrier_init(shared.page_there[i], kGroupThreads + 1);
            barrier_init(shared.page_read[i], kWorkWarps * kWarpArrivals);
        }
        for (int i = 0; i < kRowStages; ++i) {
            barrier_init(shared.rows_there[i], kGroupThreads);
            barrier_init(shared.rows_read[i], kWorkWarps * kWarpArrivals);
        }
        for (Barrier& there : shared.raw_there)
            barrier_init(there, 1);
        barrier_init_fence();
    }
    __syncthreads();
    let_next_kernel_start();
    wait_for_kernels_before();
    const Work work{batch,
                    queries,
                    kv,
                    shape,
                    queries.n_heads / kv.n_kv_heads,
                    n_splits,
                    n_tokens,
                    batch.n_wide_tiles * n_splits * kv.n_kv_heads};
    if (threadIdx.x < kGroupThreads) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kPrepareRegisters));
        prepare(shared, work);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kWorkRegisters));
        attend(shared, work, out);
    }
#endif
}

template <int kDim>
void launch(const BatchView& batch, const QueriesView& queries, const KvView& kv,
            const AttentionShape& shape, float* o, int n_multiprocessors, Stream stream) {
    const auto kernel = attention_tile_sm90<kDim>;
    let_have_shared("attention_tile", kernel, static_cast<int>(sizeof(Shared<kDim>)));
    const int most = kRows / (queries.n_heads / kv.n_kv_heads);
    const int n_splits = (kAttentionWideTokens + most - 1) / most;
    const int n_tokens = (kAttentionWideTokens + n_splits - 1) / n_splits;
    const int n_items = batch.n_wide_tiles * n_splits * kv.n_kv_heads;
    const dim3 grid(static_cast<unsigned>(std::min(n_items, n_multiprocessors)));
    launch_dependent("attention_tile", kernel, grid, kThreads, sizeof(Shared<kDim>), stream, batch,
                     queries, kv, shape, n_splits, n_tokens, o);
}

}  // namespace

void launch_attention_tile_sm90(const BatchView& batch, const QueriesView& queries,
                                const KvView& kv, const AttentionShape& shape, float* o,
                                int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(queries.n_heads / kv.n_kv_heads <= kWideHeadsMax);
    ETALON_ASSERT(queries.head_dim == 64 || queries.head_dim == 128);
    queries.head_dim == 128 ? launch<128>(batch, queries, kv, shape, o, n_multiprocessors, stream)
                            : launch<64>(batch, queries, kv, shape, o, n_multiprocessors, stream);
}

}  // namespace etalon::backend::cuda

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
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/wgmma.cuh"
#include "backend/cuda/sm90/tile_prepare.cuh"
#include "backend/cuda/sm90/tile_softmax.cuh"
#include "base/error.h"

namespace etalon::backend::cuda::tile {

namespace {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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
    RingPlace place;
    RingPlace rows_place;
    const auto release = [&](std::uint32_t barrier) { barrier_arrive_warp(barrier, lane); };
    // Pages that the other warpgroup alone sees.
    const auto skip = [&](int n) {
#pragma unroll 1
        for (; n > 0; --n) {
            barrier_wait(there + 8 * place.stage, place.parity);
            release(read + 8 * place.stage);
            place.next(kPageStages);
        }
    };
#pragma unroll 1
    for (;; rows_place.next(kRowStages)) {
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
            if (more) place.next(kPageStages);
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

}  // namespace etalon::backend::cuda::tile

namespace etalon::backend::cuda {

void launch_attention_tile_sm90(const BatchView& batch, const QueriesView& queries,
                                const KvView& kv, const AttentionShape& shape, float* o,
                                int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(queries.n_heads / kv.n_kv_heads <= kWideHeadsMax);
    ETALON_ASSERT(queries.head_dim == 64 || queries.head_dim == 128);
    queries.head_dim == 128
        ? tile::launch<128>(batch, queries, kv, shape, o, n_multiprocessors, stream)
        : tile::launch<64>(batch, queries, kv, shape, o, n_multiprocessors, stream);
}

}  // namespace etalon::backend::cuda

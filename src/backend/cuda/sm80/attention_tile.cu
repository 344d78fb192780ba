// SPDX-License-Identifier: Apache-2.0
// Attention of prompts: tiles of 32 successive tokens of a sequence over pages in shared memory, on
// the integer tensor cores (spec ATT-1 to ATT-12, ERR-2).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kHalves = kAttentionTileTokens / kTileQueries;  // warps of a head
constexpr int kStages = 3;
// 16-byte words that are left free, so that the threads of a warp meet in no bank.
constexpr int kKeyPad = 2;    // behind a run of 64 slots
constexpr int kValuePad = 2;  // behind four slots

/// A page of one KV head in shared memory.
template <int kDim>
struct Page {
    static constexpr int kKeyRuns = kDim / kKeyRun;
    static constexpr int kKeyStride = kPageSlots + kKeyPad;
    static constexpr int kValueWords = kDim / 4;
    static constexpr int kValueStride = kValueWords + kValuePad;

    int4 keys[kKeyRuns * kKeyStride];                    // [run][slot]
    int4 values[kPageSlots / kValueRun * kValueStride];  // [slot / 4][dim / 4]
    float4 key_scales[kPageSlots / 4];
    float4 value_scales[kPageSlots / 4];
};

/// Running result of the thread's two queries over the pages of a chunk, or over chunks (ATT-9).
struct Join {
    int m[2] = {};
    float l[2] = {};
    bool empty[2] = {true, true};
};

/// The tile of tokens, and the head that the warp works for.
struct Task {
    std::size_t token[2];  // of queries r and r + 8
    bool valid[2];
    int head;
    int first_page;  // of the whole tile
    int last_page;
};

/// Starts the copy of a page; all threads of the block.
template <int kDim>
__device__ void copy_page(Page<kDim>& to, const KvView& kv, std::size_t index) {
    constexpr int kWords = kPageSlots * kDim / 16;
    const auto* keys = reinterpret_cast<const int4*>(kv.keys) + index * kWords;
    const auto* values = reinterpret_cast<const int4*>(kv.values) + index * kWords;
    const auto* key_scales = reinterpret_cast<const float4*>(kv.key_scales) + index * 16;
    const auto* value_scales = reinterpret_cast<const float4*>(kv.value_scales) + index * 16;
    for (int i = static_cast<int>(threadIdx.x); i < kWords; i += static_cast<int>(blockDim.x)) {
        copy_async_16(&to.keys[i / kPageSlots * Page<kDim>::kKeyStride + i % kPageSlots], keys + i);
        copy_async_16(&to.values[i / Page<kDim>::kValueWords * Page<kDim>::kValueStride +
                                 i % Page<kDim>::kValueWords],
                      values + i);
    }
    const int thread = static_cast<int>(threadIdx.x);
    if (thread < 16) copy_async_16(&to.key_scales[thread], key_scales + thread);
    if (thread >= 16 && thread < 32)
        copy_async_16(&to.value_scales[thread - 16], value_scales + thread - 16);
}

/// ATT-9 for one page; o[8 J + j][i] as page_values gives them for the 32 elements from 32 J on.
template <bool kPartial, int kDim>
__device__ void attend_page(const Page<kDim>& page, const int4* const (&q)[2], const float (&c)[2],
                            const Slots (&slots)[2], int lane, bool (&ok)[2], Join& chunk,
                            float (&o)[kDim / 8][4]) {
    int dots[8][4];
    page_dots<kDim / 64>(
        [&](int row, int run) { return __ldg(q[row] + run); },
        [&](int run, int slot) { return page.keys[run * Page<kDim>::kKeyStride + slot]; }, lane,
        dots);
    PageSums sums[2];
    WeightPlanes weights[2];
    const auto value_scales = [&](int p) { return page.value_scales[4 * p + lane % 4]; };
    PageScores<2> scores;
    page_scores<kPartial, 2>(
        dots, c, [&](int p) { return page.key_scales[4 * p + lane % 4]; }, value_scales, slots,
        lane, sums, scores);
    page_weights<kPartial, 2>(scores, value_scales, slots, lane, sums, weights);
    float s[2];
    float unit[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        ok[row] = ok[row] && sums[row].ok;
        // An empty state is 0: the first page is copied by s = 0, u = 1.
        const bool first = chunk.empty[row];
        const int m = first ? sums[row].m : max(chunk.m[row], sums[row].m);
        const float u = first ? 1.0F : join_factor(sums[row].m, m);
        s[row] = first ? 0.0F : join_factor(chunk.m[row], m);
        unit[row] = mul(u, power_of_two(sums[row].e - 11));
        if (kPartial && !sums[row].any) continue;
        chunk.l[row] = add(mul(chunk.l[row], s[row]), mul(static_cast<float>(sums[row].l), u));
        chunk.m[row] = m;
        chunk.empty[row] = false;
    }
#pragma unroll
    for (int block = 0; block < kDim / 32; ++block) {
        int4 values[kSlotRuns];
#pragma unroll
        for (int p = 0; p < kSlotRuns; ++p)
            values[p] =
                page.values[(4 * p + lane % 4) * Page<kDim>::kValueStride + 8 * block + lane / 4];
        int a[4][4];
        page_values(weights, values, a);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                float& mine = o[4 * block + j][i];
                const float joined =
                    fused(static_cast<float>(a[j][i]), unit[i / 2], mul(mine, s[i / 2]));
                mine = kPartial && !sums[i / 2].any ? mine : joined;
            }
        }
    }
}

/// ATT-10; `total` is the thread's column of shared memory, [kDim / 2][threads].
template <int kDim>
__device__ void join_chunk(Join& chunk, float (&o)[kDim / 8][4], Join& all, float* total) {
    float s[2];
    float u[2];
    bool take[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        take[row] = !chunk.empty[row];
        const bool first = all.empty[row];
        const int m = first ? chunk.m[row] : max(all.m[row], chunk.m[row]);
        s[row] = first ? 0.0F : join_factor(all.m[row], m);
        u[row] = first ? 1.0F : join_factor(chunk.m[row], m);
        if (!take[row]) continue;
        all.l[row] = first ? chunk.l[row] : add(mul(all.l[row], s[row]), mul(chunk.l[row], u[row]));
        all.m[row] = m;
    }
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            float& mine = total[(4 * j + i) * static_cast<int>(blockDim.x)];
            const int row = i / 2;
            if (take[row])
                mine = all.empty[row] ? o[j][i] : fused(o[j][i], u[row], mul(mine, s[row]));
            o[j][i] = 0.0F;
        }
    }
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        all.empty[row] = all.empty[row] && !take[row];
        chunk.empty[row] = true;
    }
}

/// ATT-11, or zeros and the flag where an exponent was out of range (ERR-2).
template <int kDim>
__device__ void store(const Task& task, const float (&l)[2], const bool (&ok)[2],
                      const float (&o)[kDim / 8][4], int n_heads, int lane, float* to,
                      std::uint8_t* failed) {
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        if (!task.valid[row]) continue;
        const float r = mul(divide(1.0F, l[row]), 65536.0F);
        auto* out = reinterpret_cast<float4*>(to + (task.token[row] * n_heads + task.head) * kDim +
                                              lane % 4 * 8);
#pragma unroll
        for (int block = 0; block < kDim / 32; ++block) {
#pragma unroll
            for (int high = 0; high < 2; ++high) {
                const auto value = [&](int j) {
                    return ok[row] ? mul(o[4 * block + j][2 * row + high], r) : 0.0F;
                };
                out[8 * block + high] = {value(0), value(1), value(2), value(3)};
            }
        }
        if (!ok[row]) failed[task.token[row]] = 1;
    }
}

/// o = attention (ATT-1 to ATT-12).
///   in:  batch.tiles: 32 or fewer successive tokens of a sequence each; queries int8
///        [T, n_heads, kDim] and scales; the cache; positions [T]
///   out: o binary32 [T, n_heads, kDim]; failed [T]
///   tile: 32 tokens x the heads of one KV head; a warp has 16 tokens of one head; pages in shared
///         memory, 3 of them; with kChunks contexts of several chunks, whose sum is in shared
///         memory
///   floor: 4 kDim operations a token, head and visible key, of the int8 peak of mma.sync
///   supported: kDim 64 or 128, 1 to 4 query heads a KV head
template <int kDim, bool kChunks>
__global__ void __launch_bounds__(kHalves* kTileHeadsMax* kWarpLanes, 1)
    attention_tile_sm80(BatchView batch, QueriesView queries, KvView kv, AttentionShape shape,
                        float* out) {
    extern __shared__ int4 shared[];
    auto* pages = reinterpret_cast<Page<kDim>*>(shared);
    float* total = reinterpret_cast<float*>(pages + kStages) + threadIdx.x;
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int kv_head = static_cast<int>(blockIdx.x);
    const int group = queries.n_heads / kv.n_kv_heads;
    let_next_kernel_start();
    wait_for_kernels_before();
    // Phase 1: the tile. Those with the longest contexts start first.
    const int2 tile = reinterpret_cast<const int2*>(batch.tiles)[gridDim.y - 1 - blockIdx.y];
    Task task;
    task.head = kv_head * group + warp % group;  // ATT-12
    const int first_row = warp / group * kTileQueries + lane / 4;
    const Visible tile_first(batch.positions[tile.x], shape.sliding_window);
    const Visible tile_last(batch.positions[tile.x + tile.y - 1], shape.sliding_window);
    task.first_page = tile_first.first / kPageSlots;
    task.last_page = tile_last.last / kPageSlots;
    const int4* q[2];
    float c[2];
    Visible visible[2] = {tile_first, tile_first};
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        task.valid[row] = first_row + 8 * row < tile.y;
        // Queries behind the end repeat the last one; nothing of theirs is stored.
        task.token[row] = static_cast<std::size_t>(tile.x + min(first_row + 8 * row, tile.y - 1));
        visible[row] = Visible(batch.positions[task.token[row]], shape.sliding_window);
        const std::size_t index = task.token[row] * queries.n_heads + task.head;
        c[row] = mul(queries.scales[index], shape.constant);  // ATT-3
        q[row] = reinterpret_cast<const int4*>(queries.q + index * kDim);
    }
    const auto page_index = [&](int page) {
        const std::int32_t number =
            page_of(batch, static_cast<std::size_t>(tile.x), page * kPageSlots);
        return head_page(kv, shape.layer, number, kv_head);
    };
    // Phase 2: pages in order (ATT-9), chunks left to right (ATT-10).
    for (int i = 0; i < kStages - 1; ++i) {
        if (task.first_page + i <= task.last_page)
            copy_page(pages[i], kv, page_index(task.first_page + i));
        copy_async_commit();
    }
    float o[kDim / 8][4] = {};
    bool ok[2] = {true, true};
    Join chunk;
    Join all;
    for (int page = task.first_page; page <= task.last_page; ++page) {
        const int place = page - task.first_page;
        copy_async_wait<kStages - 2>();
        __syncthreads();  // this page is there, and the one before it is read
        if (page + kStages - 1 <= task.last_page)
            copy_page(pages[(place + kStages - 1) % kStages], kv, page_index(page + kStages - 1));
        copy_async_commit();
        const Slots slots[2] = {Slots(visible[0], page), Slots(visible[1], page)};
        const Page<kDim>& here = pages[place % kStages];
        if (__all_sync(kFullWarp, slots[0].all() && slots[1].all())) {
            attend_page<false, kDim>(here, q, c, slots, lane, ok, chunk, o);
        } else if (__any_sync(kFullWarp, slots[0].any() || slots[1].any())) {
            attend_page<true, kDim>(here, q, c, slots, lane, ok, chunk, o);
        }
        if constexpr (kChunks) {
            if (page % kChunkPages == kChunkPages - 1 || page == task.last_page)
                join_chunk<kDim>(chunk, o, all, total);
        }
    }
    // Phase 3: the result.
    if constexpr (kChunks) {
#pragma unroll
        for (int j = 0; j < kDim / 8; ++j) {
#pragma unroll
            for (int i = 0; i < 4; ++i)
                o[j][i] = total[(4 * j + i) * static_cast<int>(blockDim.x)];
        }
        store<kDim>(task, all.l, ok, o, queries.n_heads, lane, out, batch.failed);
    } else {
        store<kDim>(task, chunk.l, ok, o, queries.n_heads, lane, out, batch.failed);
    }
}

template <int kDim, bool kChunks>
void launch(const BatchView& batch, const QueriesView& queries, const KvView& kv,
            const AttentionShape& shape, float* o, Stream stream) {
    const int threads = queries.n_heads / kv.n_kv_heads * kHalves * kWarpLanes;
    const std::size_t bytes =
        kStages * sizeof(Page<kDim>) +
        (kChunks ? sizeof(float) * kDim / 2 * static_cast<std::size_t>(threads) : 0);
    const auto kernel = attention_tile_sm80<kDim, kChunks>;
    let_have_shared("attention_tile", kernel, static_cast<int>(bytes));
    const dim3 grid(static_cast<unsigned>(kv.n_kv_heads), static_cast<unsigned>(batch.n_tiles));
    launch_dependent("attention_tile", kernel, grid, threads, bytes, stream, batch, queries, kv,
                     shape, o);
}

}  // namespace

bool launch_attention_tile(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                           const AttentionShape& shape, bool chunks, float* o, Stream stream) {
    const int heads = queries.n_heads / kv.n_kv_heads;
    if (heads > kTileHeadsMax) return false;
    if (queries.head_dim == 128) {
        chunks ? launch<128, true>(batch, queries, kv, shape, o, stream)
               : launch<128, false>(batch, queries, kv, shape, o, stream);
        return true;
    }
    if (queries.head_dim == 64) {
        chunks ? launch<64, true>(batch, queries, kv, shape, o, stream)
               : launch<64, false>(batch, queries, kv, shape, o, stream);
        return true;
    }
    return false;
}

}  // namespace etalon::backend::cuda

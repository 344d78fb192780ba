// SPDX-License-Identifier: Apache-2.0
// What the threads of attention_tile.cu share: queries, pages in rings of stages, and which of them
// are a block's.
#pragma once

#include <cstdint>

#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm90/half_values.cuh"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda::tile {

inline constexpr int kGroupThreads = 128;  // a warpgroup
inline constexpr int kGroups = 2;          // that multiply; one more copies and prepares
inline constexpr int kThreads = (kGroups + 1) * kGroupThreads;
inline constexpr int kGroupRows = 64;  // queries
inline constexpr int kRows = kGroups * kGroupRows;
inline constexpr int kWorkThreads = kGroups * kGroupThreads;
inline constexpr int kWorkWarps = kWorkThreads / kWarpLanes;
inline constexpr int kPrepareRegisters = 40;
inline constexpr int kWorkRegisters = 232;
inline constexpr int kPageStages = 3;
inline constexpr int kRawStages = 3;
inline constexpr int kRowStages = 2;
inline constexpr int kAhead = 2;  // pages that are under way beyond the one prepared
inline constexpr int kPrepareBarrier = 1;
// A thread of the products has the slots 8 j + 2 c + i, c = lane % 4, j < 8, i < 2; scales lie so
// that these follow each other, and those of each c in other banks.
inline constexpr int kScaleRun = 16;
inline constexpr int kScaleStride = kScaleRun + 4;

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

#endif

}  // namespace etalon::backend::cuda::tile

// SPDX-License-Identifier: Apache-2.0
// The warpgroup of attention_tile.cu that copies pages and queries, and makes binary16 of values
// (spec ATT-3, ATT-7, ATT-12).
#pragma once

#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/sm90/tile_pages.cuh"

namespace etalon::backend::cuda::tile {

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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
    RingPlace copied;
    const auto copy = [&](std::size_t& index) {
        if (!source.any) return;
        index = head_page(work.kv, work.shape.layer, source.number, source.kv_head);
        copy_values(shared.raw[copied.stage], work.kv, index, shared.raw_there[copied.stage]);
        copied.next(kRawStages);
        source.next(work);
    };
    if (copies) {
        source.open(work);
#pragma unroll
        for (int i = 0; i < kAhead; ++i)
            copy(indices[i]);
    }
    RingPlace raw_place;
    RingPlace place;
    RingPlace rows_place;
    for (int round = 0; work.item(round) < work.n_items; ++round) {
        const Item item(work, work.item(round));
        if (item.n_tokens <= 0) continue;
        barrier_wait(shared.rows_read[rows_place.stage], rows_place.parity ^ 1);
        prepare_rows(shared.rows[rows_place.stage], work, item, thread);
        shared_proxy_fence();
        barrier_arrive(shared.rows_there[rows_place.stage]);
        rows_place.next(kRowStages);
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
            raw_place.next(kRawStages);
            place.next(kPageStages);
        }
    }
    barrier_wait(shared.rows_read[rows_place.stage], rows_place.parity ^ 1);
    if (thread == 0) shared.rows[rows_place.stage].last_page = -1;  // no more
    barrier_arrive(shared.rows_there[rows_place.stage]);
}

#endif

}  // namespace etalon::backend::cuda::tile

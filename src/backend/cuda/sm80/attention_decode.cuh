// SPDX-License-Identifier: Apache-2.0
// Attention of one token: the query heads of a KV head over a page by a warp, and the join of pages
// and chunks in order (spec ATT-4 to ATT-10). Shared by the kernels for generated tokens.
#pragma once

#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

/// Running result of one head over pages, or over chunks; the thread has successive elements of o.
template <int kMine>
struct State {
    float o[kMine] = {};
    float l = 0.0F;
    int m = 0;
    bool empty = true;
};

/// One page for all heads of the group: its sums and A_b to shared memory (ATT-4 to ATT-8).
/// `q(run)` gives a 16-byte run of the query of head lane / 4.
template <int kDim, typename Query>
__device__ inline void attend_page(const KvView& kv, std::size_t index, const Query& q, float c,
                                   const Slots& visible, int n_heads, int lane,
                                   PageSums (&to_sums)[kDecodeHeadsMax], int4* to_a) {
    constexpr int kRunWords = kPageSlots;
    const auto* keys = reinterpret_cast<const int4*>(kv.keys) + index * (kPageSlots * kDim / 16);
    const auto* values =
        reinterpret_cast<const int4*>(kv.values) + index * (kPageSlots * kDim / 16);
    const auto* key_scales = reinterpret_cast<const float4*>(kv.key_scales) + index * 16;
    const auto* value_scales = reinterpret_cast<const float4*>(kv.value_scales) + index * 16;
    const int r = lane / 4;
    // All of the page is under way before the first product.
    int4 v[kDim / 32][kSlotRuns];
#pragma unroll
    for (int block = 0; block < kDim / 32; ++block) {
#pragma unroll
        for (int p = 0; p < kSlotRuns; ++p)
            v[block][p] = values[(4 * p + lane % 4) * (kDim / 4) + 8 * block + r];
    }
    float4 key_scale[kSlotRuns];
    float4 value_scale[kSlotRuns];
#pragma unroll
    for (int p = 0; p < kSlotRuns; ++p) {
        key_scale[p] = key_scales[4 * p + lane % 4];
        value_scale[p] = value_scales[4 * p + lane % 4];
    }
    int dots[8][4];
    page_dots<kDim / 64>([&](int row, int run) { return row == 0 ? q(run) : int4{}; },
                         [&](int run, int slot) { return keys[run * kRunWords + slot]; }, lane,
                         dots);
    const Slots slots[2] = {visible, visible};
    const float both[2] = {c, 0.0F};
    PageSums sums[2];
    WeightPlanes weights[2] = {};
    const auto of_keys = [&](int p) { return key_scale[p]; };
    const auto of_values = [&](int p) { return value_scale[p]; };
    PageScores<1> scores;
    if (visible.all()) {
        page_scores<false, 1>(dots, both, of_keys, of_values, slots, lane, sums, scores);
        page_weights<false, 1>(scores, of_values, slots, lane, sums, weights);
    } else {
        page_scores<true, 1>(dots, both, of_keys, of_values, slots, lane, sums, scores);
        page_weights<true, 1>(scores, of_values, slots, lane, sums, weights);
    }
    if (lane % 4 == 0) to_sums[r] = sums[0];
#pragma unroll
    for (int block = 0; block < kDim / 32; ++block) {
        int a[4][4];
        page_values(weights, v[block], a);
        if (r >= n_heads) continue;
        int4* to = to_a + r * (kDim / 4) + 8 * block + lane % 4 * 2;
        to[0] = {a[0][0], a[1][0], a[2][0], a[3][0]};
        to[1] = {a[0][1], a[1][1], a[2][1], a[3][1]};
    }
}

/// ATT-9.
template <int kMine>
__device__ inline void join_page(const PageSums& page, const int* a, State<kMine>& state) {
    const int m = state.empty ? page.m : max(state.m, page.m);
    const float s = state.empty ? 0.0F : join_factor(state.m, m);
    const float u = state.empty ? 1.0F : join_factor(page.m, m);
    const float unit = mul(u, power_of_two(page.e - 11));
    state.l = add(mul(state.l, s), mul(static_cast<float>(page.l), u));
#pragma unroll
    for (int i = 0; i < kMine; ++i)
        state.o[i] = fused(static_cast<float>(a[i]), unit, mul(state.o[i], s));
    state.m = m;
    state.empty = false;
}

/// ATT-10.
template <int kMine>
__device__ inline void join_chunk(const State<kMine>& chunk, State<kMine>& state) {
    if (state.empty) {
        state = chunk;
        return;
    }
    const int m = max(state.m, chunk.m);
    const float s = join_factor(state.m, m);
    const float u = join_factor(chunk.m, m);
    state.l = add(mul(state.l, s), mul(chunk.l, u));
#pragma unroll
    for (int i = 0; i < kMine; ++i)
        state.o[i] = fused(chunk.o[i], u, mul(state.o[i], s));
    state.m = m;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// The experts of each token, and the tokens of each expert, all on the card (spec MOE-1, MOE-2,
// MOE-4, LIN-7).
#include <cuda_runtime.h>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/float_weights.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

using exact::Format;

constexpr int kThreads = 512;
constexpr int kTeams = kThreads / kLanes;  // a thread of each has one lane of SUM-1
constexpr int kMine = 4;                   // dot products of a thread
constexpr int kAtOnce = kTeams * kMine;
constexpr int kAhead = 16;  // weights for each that it loads first
constexpr int kWarps = kThreads / kWarpLanes;
static_assert(kAtOnce <= kWarps, "a warp sums the lanes of one dot product");
static_assert(kExpertsMax <= kWarpLanes * kWarpLanes, "a lane has a bit for each of its experts");
static_assert(kThreads - kWarpLanes > kExpertsMax, "a thread has one begin of a group");

struct Shared {
    float lanes[kAtOnce][kLanes];
    float logits[kExpertsMax];
    int chosen[kExpertsMax];
    float weights[kExpertsMax];
    int counts[kExpertsMax];
    int begins[kExpertsMax];
    bool is_last;
};

/// A thread's part of dot products of kMine experts and a token (SUM-1): one lane of each. A value
/// of the token that it loads serves all of them.
template <Format kFormat>
struct Part {
    const std::byte* rows[kMine];  ///< from the lane on
    int left;                      ///< elements from there to the end
    float weights[kAhead][kMine];

    /// Of the experts from `first` on; one that is missing repeats the last.
    __device__ Part(const FloatsView& router, int first, int lane) : left(router.n_cols - lane) {
#pragma unroll
        for (int e = 0; e < kMine; ++e) {
            const auto expert = static_cast<std::size_t>(min(first + e, router.n_rows - 1));
            rows[e] = router.rows + (expert * static_cast<std::size_t>(router.n_cols) +
                                     static_cast<std::size_t>(lane)) *
                                        float_weight_bytes<kFormat>();
        }
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
#pragma unroll
            for (int e = 0; e < kMine; ++e)
                weights[i][e] =
                    i * kLanes < left ? float_weight<kFormat>(rows[e], i * kLanes) : 0.0F;
        }
    }

    /// `token` from the lane on.
    __device__ void multiply(const float* token, float (&sums)[kMine]) const {
        float values[kAhead];
#pragma unroll
        for (int i = 0; i < kAhead; ++i)
            values[i] = i * kLanes < left ? token[i * kLanes] : 0.0F;
#pragma unroll
        for (int i = 0; i < kAhead; ++i) {
            if (i * kLanes >= left) break;
#pragma unroll
            for (int e = 0; e < kMine; ++e)
                sums[e] = fused(weights[i][e], values[i], sums[e]);
        }
        for (int at = kAhead * kLanes; at < left; at += kLanes) {
            const float value = token[at];
#pragma unroll
            for (int e = 0; e < kMine; ++e)
                sums[e] = fused(float_weight<kFormat>(rows[e], at), value, sums[e]);
        }
    }
};

// One warp chooses a few experts of a few, once a layer: the loops below stay loops, so that there
// are few instructions to fetch.

/// An integer that orders finite logits, zeros of both signs as equal, and is never 0.
__device__ std::uint32_t order_of(float logit) {
    constexpr std::uint32_t kSign = 0x80000000U;
    const std::uint32_t bits = __float_as_uint(add(logit, 0.0F));  // -0 becomes +0
    return (bits & kSign) != 0 ? ~bits : bits | kSign;
}

/// The experts of a token, by one warp, which gets the largest logit (MOE-1, MOE-4).
__device__ float choose(Shared& shared, const RoutingView& routing, int lane,
                        std::uint8_t& failed) {
    const int n = routing.n_experts;
    bool bad = false;
#pragma unroll 1
    for (int e = lane; e < n; e += kWarpLanes)
        bad = bad || magnitude_bits(shared.logits[e]) >= kInfinityBits;
    if (__any_sync(kFullWarp, bad ? 1 : 0) != 0) {
#pragma unroll 1
        for (int e = lane; e < n; e += kWarpLanes)
            shared.logits[e] = 0.0F;
        if (lane == 0) failed = 1;
        __syncwarp();
    }
    unsigned taken = 0;  // bit i: expert lane + 32 i
    int first = 0;
    for (int turn = 0; turn < routing.n_used; ++turn) {
        std::uint32_t order = 0;  // of the lane's best, the lower index of equals
        int expert = n;
#pragma unroll 1
        for (int e = lane; e < n; e += kWarpLanes) {
            const std::uint32_t next = order_of(shared.logits[e]);
            if ((taken >> (e / kWarpLanes) & 1U) != 0 || next <= order) continue;
            order = next;
            expert = e;
        }
        const std::uint32_t highest = __reduce_max_sync(kFullWarp, order);
        const int best = __reduce_min_sync(kFullWarp, order == highest ? expert : n);
        if (turn == 0) first = best;
        if (best % kWarpLanes == lane) taken |= 1U << (best / kWarpLanes);
    }
    int before = 0;  // experts that were chosen, in ascending order
#pragma unroll 1
    for (int i = 0; i * kWarpLanes < n; ++i) {
        const bool mine = (taken >> i & 1U) != 0;
        const unsigned all = __ballot_sync(kFullWarp, mine ? 1 : 0);
        if (mine) shared.chosen[before + __popc(all & ((1U << lane) - 1U))] = lane + i * kWarpLanes;
        before += __popc(all);
    }
    return shared.logits[first];
}

/// The weights of the chosen experts of token t, by the same warp (MOE-2).
__device__ void weigh(Shared& shared, const RoutingView& routing, std::size_t t, int lane,
                      float largest) {
    __syncwarp();
#pragma unroll 1
    for (int i = lane; i < routing.n_used; i += kWarpLanes) {
        const float x = mul(sub(shared.logits[shared.chosen[i]], largest), exact::kLog2E);
        shared.weights[i] = exp2_full(x > -126.0F ? x : -126.0F);
    }
    __syncwarp();
    float sum = 0.0F;
#pragma unroll 1
    for (int i = 0; i < routing.n_used; ++i)
        sum = add(sum, shared.weights[i]);
#pragma unroll 1
    for (int i = lane; i < routing.n_used; i += kWarpLanes) {
        const std::size_t place = t * static_cast<std::size_t>(routing.n_used) + i;
        routing.expert_of[place] = shared.chosen[i];
        routing.weight_of[place] = divide(shared.weights[i], sum);
        routing.failed[place] = 0;
    }
}

/// The pairs of a token that is alone: they stand as they were chosen. By more than kExpertsMax
/// threads, numbered from 0.
__device__ void group_one(const Shared& shared, const RoutingView& routing, int thread) {
    if (thread < routing.n_used) {
        routing.token_of[thread] = 0;
        routing.pair_of[thread] = thread;
    }
    if (thread < routing.n_experts)
        routing.active[thread] = thread < routing.n_used ? shared.chosen[thread] : kNoExpert;
    if (thread > routing.n_experts) return;
    int before = 0;
#pragma unroll 1
    for (int i = 0; i < routing.n_used; ++i)
        before += shared.chosen[i] < thread ? 1 : 0;
    routing.begin[thread] = before;
}

/// body(p, mine, all) for 32 choices at a time: which of them are of expert e.
template <typename Body>
__device__ void for_choices(const RoutingView& routing, int n_pairs, int e, int lane,
                            const Body& body) {
#pragma unroll 4
    for (int first = 0; first < n_pairs; first += kWarpLanes) {
        const int p = first + lane;
        const bool mine = p < n_pairs && __ldcg(routing.expert_of + p) == e;
        body(p, mine, __ballot_sync(kFullWarp, mine ? 1 : 0));
    }
}

/// The pairs of each expert, in the order of tokens: by the block that is the last to choose.
__device__ void group(Shared& shared, const RoutingView& routing, int n_pairs) {
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int warp = thread / kWarpLanes;
    const int n = routing.n_experts;
    for (int e = warp; e < n; e += kWarps) {
        int count = 0;
        for_choices(routing, n_pairs, e, lane,
                    [&](int, bool, unsigned all) { count += __popc(all); });
        if (lane == 0) shared.counts[e] = count;
    }
    __syncthreads();
    if (thread < n) {
        int begin = 0;
        int n_active = 0;
        int n_all = 0;
        for (int e = 0; e < n; ++e) {
            const int count = shared.counts[e];
            begin += e < thread ? count : 0;
            n_active += e < thread && count > 0 ? 1 : 0;
            n_all += count > 0 ? 1 : 0;
        }
        shared.begins[thread] = begin;
        routing.begin[thread] = begin;
        if (thread == n - 1) routing.begin[n] = n_pairs;
        if (shared.counts[thread] > 0) routing.active[n_active] = thread;
        if (thread >= n_all) routing.active[thread] = kNoExpert;
    }
    __syncthreads();
    for (int e = warp; e < n; e += kWarps) {
        int next = shared.begins[e];
        for_choices(routing, n_pairs, e, lane, [&](int p, bool mine, unsigned all) {
            if (mine) {
                const int pair = next + __popc(all & ((1U << lane) - 1U));
                routing.token_of[pair] = p / routing.n_used;
                routing.pair_of[p] = pair;
            }
            next += __popc(all);
        });
    }
}

/// Experts and weights of each token; pairs grouped by expert.
///   in:  router.rows [E, K] of the format; x.floats binary32 [T, K]
///   out: routing, all of it; failed [T]
///   tile: a token a block of 16 warps, eight of them for four dot products; the last block to end
///         groups the pairs of all
///   floor: the bytes of the router, of the read speed; for one token its latencies
///   supported: E <= kExpertsMax, 1 <= n_used <= E, any K
template <Format kFormat>
__global__ void __launch_bounds__(kThreads)
    experts_route_sm80(FloatsView router, ActivationsView x, RoutingView routing,
                       std::uint8_t* failed) {
    __shared__ Shared shared;
    let_next_kernel_start();
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int team = static_cast<int>(threadIdx.x) / kLanes;
    const int sum_lane = static_cast<int>(threadIdx.x) % kLanes;
    const std::size_t t = blockIdx.x;
    const float* token =
        x.floats + t * static_cast<std::size_t>(x.n_cols) + static_cast<std::size_t>(sum_lane);
    // Phase 1: the logits of the token. The first weights are loaded before the input is awaited.
    for (int first = 0; first < router.n_rows; first += kAtOnce) {
        const Part<kFormat> part(router, first + team * kMine, sum_lane);
        if (first == 0) wait_for_kernels_before();
        float sums[kMine] = {};
        part.multiply(token, sums);
#pragma unroll
        for (int e = 0; e < kMine; ++e)
            shared.lanes[team * kMine + e][sum_lane] = sums[e];
        __syncthreads();
        if (warp < kAtOnce) {
            float lanes[kLaneSums];
#pragma unroll
            for (int i = 0; i < kLaneSums; ++i)
                lanes[i] = shared.lanes[warp][i * kWarpLanes + lane];
            const float logit = sum_tree(lanes);
            if (lane == 0 && first + warp < router.n_rows) shared.logits[first + warp] = logit;
        }
        __syncthreads();
    }
    // Phase 2: its choice. The groups of a token that is alone need no weights: they are made
    // beside them.
    const bool alone = gridDim.x == 1;
    float largest = 0.0F;
    if (warp == 0) largest = choose(shared, routing, lane, failed[t]);
    if (alone) {
        __syncthreads();
        if (warp != 0)
            return group_one(shared, routing, static_cast<int>(threadIdx.x) - kWarpLanes);
    }
    if (warp == 0) weigh(shared, routing, t, lane, largest);
    if (alone) return;
    // Phase 3: the groups.
    if (warp == 0) __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        shared.is_last = atomicAdd(routing.n_ended, 1U) == gridDim.x - 1;
        if (shared.is_last) *routing.n_ended = 0;
        __threadfence();
    }
    __syncthreads();
    if (shared.is_last) group(shared, routing, static_cast<int>(gridDim.x) * routing.n_used);
}

template <Format kFormat>
void launch(const BatchView& batch, const FloatsView& router, const ActivationsView& x,
            const RoutingView& routing, Stream stream) {
    launch_dependent("experts_route", experts_route_sm80<kFormat>,
                     dim3(static_cast<unsigned>(batch.n_tokens)), kThreads, 0, stream, router, x,
                     routing, batch.failed);
}

}  // namespace

void launch_experts_route(const BatchView& batch, const FloatsView& router,
                          const ActivationsView& x, const RoutingView& routing, Stream stream) {
    ETALON_ASSERT(router.n_rows == routing.n_experts && routing.n_experts <= kExpertsMax);
    ETALON_ASSERT(batch.n_tokens >= 1);
    ETALON_ASSERT(routing.n_used >= 1 && routing.n_used <= routing.n_experts);
    ETALON_ASSERT(x.floats != nullptr && x.n_cols == router.n_cols);
    switch (router.format) {
        case Format::f32:
            return launch<Format::f32>(batch, router, x, routing, stream);
        case Format::f16:
            return launch<Format::f16>(batch, router, x, routing, stream);
        case Format::bf16:
            return launch<Format::bf16>(batch, router, x, routing, stream);
        default:
            ETALON_ASSERT(false);
    }
}

}  // namespace etalon::backend::cuda

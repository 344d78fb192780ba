// SPDX-License-Identifier: Apache-2.0
// The outputs of a token's experts, joined and added to its residual stream (spec MOE-3, RES-1).
#include <cuda_runtime.h>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::int32_t kNoPair = -1;
constexpr int kAhead = 4;  // pairs of a token that are known before their outputs are awaited

/// h = h + acc, acc = fma(w_e, y_e, acc) from +0, experts ascending.
///   in:  y binary32 [pairs, n_cols]; routing
///   out: h binary32 [T, n_cols]; failed [T], of tokens whose pairs have failed
///   tile: 256 elements of a token a block, one a thread; what a settled routing says and h, which
///         no kernel behind it writes, are read before the outputs are awaited
///   floor: 4 (n_used + 2) bytes an element, of the read speed
///   supported: any shape
__global__ void __launch_bounds__(kThreads)
    experts_join_sm80(RoutingView routing, const float* y, int n_cols, float* h,
                      std::uint8_t* failed) {
    let_next_kernel_start();
    if (!routing.settled) wait_for_kernels_before();
    const std::size_t t = blockIdx.y;
    const auto width = static_cast<std::size_t>(n_cols);
    const std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
    const auto n_used = static_cast<std::size_t>(routing.n_used);
    const std::int32_t* pair_of = routing.pair_of + t * n_used;
    const float* weight_of = routing.weight_of + t * n_used;
    // Past the first cache, which may hold what was there a layer before until the kernel has
    // waited.
    const float old = i < width ? __ldcg(h + t * width + i) : 0.0F;
    std::int32_t pairs[kAhead];
    float weights[kAhead];
#pragma unroll
    for (int e = 0; e < kAhead; ++e) {
        const bool there = e < routing.n_used;
        pairs[e] = there ? __ldcg(pair_of + e) : 0;
        weights[e] = there ? __ldcg(weight_of + e) : 0.0F;
    }
    const std::int32_t own = i < n_used ? __ldcg(pair_of + i) : kNoPair;  // whose flag it passes on
    wait_for_kernels_before();
    const std::uint8_t bad = own != kNoPair ? routing.failed[own] : 0;
    const auto output = [&](std::int32_t pair) {
        return y[static_cast<std::size_t>(pair) * width + i];
    };
    float outputs[kAhead];
#pragma unroll
    for (int e = 0; e < kAhead; ++e)
        outputs[e] = i < width && e < routing.n_used ? output(pairs[e]) : 0.0F;
    if (bad != 0) failed[t] = 1;
    if (i >= width) return;
    float acc = 0.0F;
#pragma unroll
    for (int e = 0; e < kAhead; ++e) {
        if (e < routing.n_used) acc = fused(weights[e], outputs[e], acc);  // MOE-3
    }
    for (int e = kAhead; e < routing.n_used; ++e)
        acc = fused(weight_of[e], output(pair_of[e]), acc);
    h[t * width + i] = add(old, acc);  // RES-1
}

}  // namespace

void launch_experts_join(const BatchView& batch, const RoutingView& routing, const float* y,
                         int n_cols, float* h, Stream stream) {
    ETALON_ASSERT(batch.n_tokens >= 1 && n_cols >= 1 && routing.n_used >= 1);
    // The blocks of a token look at all of its pairs, however few its elements are.
    const int n = n_cols > routing.n_used ? n_cols : routing.n_used;
    const dim3 grid(static_cast<unsigned>((n + kThreads - 1) / kThreads),
                    static_cast<unsigned>(batch.n_tokens));
    launch_dependent("experts_join", experts_join_sm80, grid, kThreads, 0, stream, routing, y,
                     n_cols, h, batch.failed);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// The outputs of a token's experts, joined and added to its residual stream (spec MOE-3, RES-1).
#include <cuda_runtime.h>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;

/// h = h + acc, acc = fma(w_e, y_e, acc) from +0, experts ascending.
///   in:  y binary32 [pairs, n_cols]; routing
///   out: h binary32 [T, n_cols]; failed [T], of tokens whose pairs have failed
///   tile: 256 elements of a token a block, one a thread
///   floor: 4 (n_used + 2) bytes an element, of the read speed
///   supported: any shape
__global__ void __launch_bounds__(kThreads)
    experts_join_sm80(RoutingView routing, const float* y, int n_cols, float* h,
                      std::uint8_t* failed) {
    let_next_kernel_start();
    wait_for_kernels_before();
    const std::size_t t = blockIdx.y;
    const auto n_used = static_cast<std::size_t>(routing.n_used);
    const auto width = static_cast<std::size_t>(n_cols);
    const std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
    if (i < n_used && routing.failed[routing.pair_of[t * n_used + i]] != 0) failed[t] = 1;
    if (i >= width) return;
    float acc = 0.0F;
    for (std::size_t e = t * n_used; e < (t + 1) * n_used; ++e) {
        const auto pair = static_cast<std::size_t>(routing.pair_of[e]);
        acc = fused(routing.weight_of[e], y[pair * width + i], acc);  // MOE-3
    }
    h[t * width + i] = add(h[t * width + i], acc);  // RES-1
}

}  // namespace

void launch_experts_join(const BatchView& batch, const RoutingView& routing, const float* y,
                         int n_cols, float* h, Stream stream) {
    // The blocks of a token look at all of its pairs, however few its elements are.
    const int n = n_cols > routing.n_used ? n_cols : routing.n_used;
    const dim3 grid(static_cast<unsigned>((n + kThreads - 1) / kThreads),
                    static_cast<unsigned>(batch.n_tokens));
    launch_dependent("experts_join", experts_join_sm80, grid, kThreads, 0, stream, routing, y,
                     n_cols, h, batch.failed);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Linear layers of floating formats (spec LIN-7, SUM-1).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/float_weights.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/linear_out.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

using exact::Format;

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kTokens = 4;  // of a warp

/// y[t][row] = sum_k w x in 256 lanes (LIN-7, SUM-1).
///   in:  w.rows [R, K] of the format; x.floats binary32 [T, K]
///   out: out.y
///   tile: one row and 4 tokens a warp, 4 warps
///   floor: the bytes of the row, of the read speed, up to 4 tokens
///   supported: any R, K and T; rows aligned to an element
template <Format kFormat>
__global__ void __launch_bounds__(kThreads)
    linear_floats_sm80(FloatsView w, ActivationsView x, LinearOut out) {
    let_next_kernel_start();
    wait_for_kernels_before();
    enter_group(out);
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int row =
        static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarpLanes;
    const int first = static_cast<int>(blockIdx.y) * kTokens;
    if (row >= w.n_rows || first >= out.n_tokens) return;
    constexpr std::size_t kBytes = float_weight_bytes<kFormat>();
    const std::byte* weights =
        w.rows + static_cast<std::size_t>(row) * static_cast<std::size_t>(w.n_cols) * kBytes;
    const float* tokens[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t)
        tokens[t] = x.floats + token_of(out, min(first + t, out.n_tokens - 1)) *
                                   static_cast<std::size_t>(w.n_cols);
    float sums[kTokens][kLaneSums] = {};
    for (int begin = lane; begin < w.n_cols; begin += kLanes) {
#pragma unroll
        for (int i = 0; i < kLaneSums; ++i) {
            const int k = begin + i * kWarpLanes;
            if (k >= w.n_cols) continue;
            const float v = float_weight<kFormat>(weights, k);
#pragma unroll
            for (int t = 0; t < kTokens; ++t)
                sums[t][i] = fused(v, tokens[t][k], sums[t][i]);
        }
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
        const float sum = sum_tree(sums[t]);
        if (lane == 0 && first + t < out.n_tokens) put(out, first + t, row, sum);
    }
}

template <Format kFormat>
void launch(const FloatsView& w, const ActivationsView& x, const LinearOut& out, Stream stream) {
    const dim3 grid(static_cast<unsigned>((w.n_rows + kWarps - 1) / kWarps),
                    static_cast<unsigned>((out.n_tokens + kTokens - 1) / kTokens));
    launch_dependent("linear_floats", linear_floats_sm80<kFormat>, grid, kThreads, 0, stream, w, x,
                     out);
}

}  // namespace

void launch_linear_floats(const FloatsView& w, const ActivationsView& x, const LinearOut& out,
                          Stream stream) {
    switch (w.format) {
        case Format::f32:
            return launch<Format::f32>(w, x, out, stream);
        case Format::f16:
            return launch<Format::f16>(w, x, out, stream);
        case Format::bf16:
            return launch<Format::bf16>(w, x, out, stream);
        default:
            ETALON_ASSERT(false);
    }
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// E8 linear layers of many tokens on the integer tensor cores (spec LIN-2, LIN-3).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/mma.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/linear_out.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kTileRows = 128;
constexpr int kTileTokens = 64;
constexpr int kStep = 64;  // bytes of K in a stage
constexpr int kStages = 4;
constexpr int kWarps = 4;  // 2 by rows, 2 by tokens
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kWarpRows = kTileRows / 2;
constexpr int kWarpTokens = kTileTokens / 2;
constexpr int kRowTiles = kWarpRows / 16;
constexpr int kTokenTiles = kWarpTokens / 8;
constexpr int kWords = kStep / static_cast<int>(sizeof(int4));  // of a row in a stage
constexpr int kRowCopies = kTileRows * kWords / kThreads;
constexpr int kTokenCopies = kTileTokens * kWords / kThreads;
static_assert(kStep == kRowAlignment, "rows are padded to whole stages");
static_assert(kTileRows * kWords % kThreads == 0 && kTileTokens * kWords % kThreads == 0);

/// One stage in shared memory. A row has 64 bytes, so the 16-byte words that a warp loads together
/// (8 rows of 4 words) are 512 successive bytes and no two lanes meet in a bank.
struct Stage {
    int4 w[kTileRows * kWords];
    int4 x[kTileTokens * kWords];
};

/// What a thread copies into each stage.
struct Copies {
    const int4* w[kRowCopies];
    const int4* x[kTokenCopies];

    /// Rows and tokens behind the end repeat the last; their products are not stored.
    __device__ Copies(const E8View& weights, const ActivationsView& input, const LinearOut& out,
                      int first_row, int first_token) {
        const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
        for (int i = 0; i < kRowCopies; ++i) {
            const int place = i * kThreads + thread;
            const auto row =
                static_cast<std::size_t>(min(first_row + place / kWords, weights.n_rows - 1));
            w[i] = reinterpret_cast<const int4*>(weights.q + row * weights.stride) + place % kWords;
        }
#pragma unroll
        for (int i = 0; i < kTokenCopies; ++i) {
            const int place = i * kThreads + thread;
            const std::size_t token =
                token_of(out, min(first_token + place / kWords, out.n_tokens - 1));
            x[i] =
                reinterpret_cast<const int4*>(input.row_q + token * input.stride) + place % kWords;
        }
    }
    __device__ void start(Stage& stage, int step) const {
        const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
        for (int i = 0; i < kRowCopies; ++i)
            copy_async_16(&stage.w[i * kThreads + thread], w[i] + step * kWords);
#pragma unroll
        for (int i = 0; i < kTokenCopies; ++i)
            copy_async_16(&stage.x[i * kThreads + thread], x[i] + step * kWords);
    }
};

/// The products of one stage. A lane's 16-byte word holds 16 successive elements of K; they are
/// given to the instruction in another order, the same for weights and tokens, and a sum of
/// integers has none (LIN-2).
__device__ void multiply(const Stage& stage, int warp_row, int warp_token, int lane,
                         int (&sums)[kRowTiles][kTokenTiles][4]) {
    const int r = lane / 4;
    const int word = lane % 4;
    int4 x[kTokenTiles];
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j)
        x[j] = stage.x[(warp_token + j * 8 + r) * kWords + word];
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
        const int4 low = stage.w[(warp_row + i * 16 + r) * kWords + word];
        const int4 high = stage.w[(warp_row + i * 16 + 8 + r) * kWords + word];
#pragma unroll
        for (int j = 0; j < kTokenTiles; ++j) {
            mma_i8_16x8x32(sums[i][j], low.x, high.x, low.y, high.y, x[j].x, x[j].y);
            mma_i8_16x8x32(sums[i][j], low.z, high.z, low.w, high.w, x[j].z, x[j].w);
        }
    }
}

/// LIN-3 and the store.
__device__ void finish(const E8View& w, const ActivationsView& x, const LinearOut& out,
                       int first_row, int first_token, int lane,
                       const int (&sums)[kRowTiles][kTokenTiles][4]) {
#pragma unroll
    for (int j = 0; j < kTokenTiles; ++j) {
#pragma unroll
        for (int odd = 0; odd < 2; ++odd) {
            const int token = first_token + j * 8 + lane % 4 * 2 + odd;
            if (token >= out.n_tokens) continue;
            const float a = x.row_scales[token_of(out, token)];
#pragma unroll
            for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
                for (int high = 0; high < 2; ++high) {
                    const int row = first_row + i * 16 + high * 8 + lane / 4;
                    if (row >= w.n_rows) continue;
                    const float sum = static_cast<float>(sums[i][j][2 * high + odd]);
                    put(out, token, row, mul(sum, mul(a, w.d[row])));  // LIN-3
                }
            }
        }
    }
}

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3).
///   in:  w.q int8 [R, stride], |q| <= 127; w.d binary32 [R]; x.row_q int8 [T, stride];
///        x.row_scales [T]; both with zeros behind K
///   out: out.y
///   tile: 128 rows x 64 tokens, 4 warps of 64 x 32; stages of 64 elements of K, 4 of them; shared:
///         48 KB
///   floor: 2 T R K operations, of the int8 peak of mma.sync
///   supported: any R and T, stride a multiple of 64
__global__ void __launch_bounds__(kThreads)
    linear_e8_sm80(E8View w, ActivationsView x, LinearOut out) {
    let_next_kernel_start();
    wait_for_kernels_before();
    enter_group(out);
    extern __shared__ Stage stages[];
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int first_row = static_cast<int>(blockIdx.x) * kTileRows;
    const int first_token = static_cast<int>(blockIdx.y) * kTileTokens;
    if (first_token >= out.n_tokens) return;
    const int warp_row = warp / 2 * kWarpRows;
    const int warp_token = warp % 2 * kWarpTokens;
    const int n_steps = w.stride / kStep;
    const Copies copies(w, x, out, first_row, first_token);
    for (int step = 0; step < kStages - 1; ++step) {
        if (step < n_steps) copies.start(stages[step], step);
        copy_async_commit();
    }
    int sums[kRowTiles][kTokenTiles][4] = {};
    for (int step = 0; step < n_steps; ++step) {
        copy_async_wait<kStages - 2>();
        __syncthreads();  // this stage is filled, and the one before it is read
        const int next = step + kStages - 1;
        if (next < n_steps) copies.start(stages[next % kStages], next);
        copy_async_commit();
        multiply(stages[step % kStages], warp_row, warp_token, lane, sums);
    }
    finish(w, x, out, first_row + warp_row, first_token + warp_token, lane, sums);
}

}  // namespace

void launch_linear_e8(const E8View& w, const ActivationsView& x, const LinearOut& out,
                      Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && w.n_rows >= 1);
    ETALON_ASSERT(w.stride == x.stride && w.stride % kStep == 0);
    const dim3 grid(static_cast<unsigned>((w.n_rows + kTileRows - 1) / kTileRows),
                    static_cast<unsigned>((out.n_tokens + kTileTokens - 1) / kTileTokens));
    constexpr std::size_t kBytes = sizeof(Stage) * kStages;
    static_assert(kBytes <= 48 * 1024, "more has to be allowed first");
    launch_dependent("linear_e8", linear_e8_sm80, grid, kThreads, kBytes, stream, w, x, out);
}

}  // namespace etalon::backend::cuda

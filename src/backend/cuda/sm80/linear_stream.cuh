// SPDX-License-Identifier: Apache-2.0
// How blocks of the kernels of a few tokens are cut, and how they end (spec LIN-2, LIN-3): 16 rows
// and all tokens, whose warps take parts of K in turn and add their sums.
#pragma once

#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/sm80/linear_out.cuh"

namespace etalon::backend::cuda::stream {

inline constexpr int kWarps = 8;
inline constexpr int kThreads = kWarps * kWarpLanes;
inline constexpr int kRows = 16;       // of a block: those of one product
inline constexpr int kTileTokens = 8;  // of one product

/// Sums of each warp; a row more than there are, so that lanes meet in no bank.
template <int kTiles>
using Sums = int[kWarps][kTiles][kTileTokens][kRows + 1];

/// The input of the lane's token of each tile, from the lane's 16 bytes on. Tokens behind the end
/// repeat the last one.
template <int kTiles>
__device__ void find_tokens(const ActivationsView& x, const LinearOut& out, int lane,
                            const int4* (&tokens)[kTiles]) {
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
        const std::size_t token = token_of(out, min(i * kTileTokens + lane / 4, out.n_tokens - 1));
        tokens[i] =
            reinterpret_cast<const int4*>(x.row_q + token * static_cast<std::size_t>(x.stride)) +
            lane % 4;
    }
}

/// The end of a block: the sums of the warps, and LIN-3 of row first_row + thread % kRows, whose
/// scale is d.
template <int kTiles>
__device__ void finish(const int (&products)[kTiles][4], Sums<kTiles>& sums, int first_row,
                       int n_rows, float d, const ActivationsView& x, const LinearOut& out) {
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int row = first_row + thread % kRows;
#pragma unroll
    for (int i = 0; i < kTiles; ++i) {
#pragma unroll
        for (int j = 0; j < 4; ++j)
            sums[thread / kWarpLanes][i][lane % 4 * 2 + j % 2][lane / 4 + j / 2 * 8] =
                products[i][j];
    }
    __syncthreads();
    if (row >= n_rows) return;
    for (int t = thread / kRows; t < out.n_tokens; t += kThreads / kRows) {
        int sum = 0;
#pragma unroll
        for (int part = 0; part < kWarps; ++part)
            sum += sums[part][t / kTileTokens][t % kTileTokens][thread % kRows];
        const float scale = mul(x.row_scales[token_of(out, t)], d);
        put(out, t, row, mul(static_cast<float>(sum), scale));  // LIN-3
    }
}

}  // namespace etalon::backend::cuda::stream

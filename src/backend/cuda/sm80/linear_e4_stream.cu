// SPDX-License-Identifier: Apache-2.0
// E4 linear layers of a few tokens: the codes stream by once, become int8 in registers and meet the
// tokens in the integer tensor cores (spec FMT-17, LIN-2, LIN-3).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/e4.cuh"
#include "backend/cuda/sm80/linear_stream.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

using stream::kThreads;
using stream::kTileTokens;
using stream::kWarps;
static_assert(stream::kRows == kE4TileRows, "a block is a tile of rows");

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3), q_w = T[index][code] (FMT-17).
///   in:  w.groups (e4.cuh); w.d binary32 [R]; x.row_q int8 [T, stride]; x.row_scales [T]
///   out: out.y
///   tile: 16 rows and all tokens a block of 8 warps, which take a group (256 columns) in turn and
///         add their sums at the end; the next group is under way while one is multiplied, and the
///         first before the input is awaited
///   floor: 0.53 stride + 4 bytes a row, of the read speed
///   supported: out.n_tokens <= 8 kTiles, any R, stride a multiple of 64
template <int kTiles>
__global__ void __launch_bounds__(kThreads, 2)
    linear_e4_stream_sm80(E4View w, const __grid_constant__ E4Table table, ActivationsView x,
                          LinearOut out) {
    __shared__ stream::Sums<kTiles> sums;
    __shared__ E4Room room;
    let_next_kernel_start();
    if (out.group != nullptr) {  // whose tokens are known then alone
        wait_for_kernels_before();
        enter_group(out);
        if (out.n_tokens == 0) return;
    }
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int warp = thread / kWarpLanes;
    const int first_row = static_cast<int>(blockIdx.x) * kE4TileRows;
    const int n_groups = (w.stride + kE4Columns - 1) / kE4Columns;
    const std::byte* groups =
        w.groups + static_cast<std::size_t>(blockIdx.x) * n_groups * kE4GroupBytes;
    E4Words words{};
    if (warp < n_groups) words.load(groups + warp * kE4GroupBytes, lane);
    load_e4_rows<kTiles == 1 ? E4Form::sum : E4Form::bits>(table, room.rows());
    const int row = first_row + thread % stream::kRows;
    const float d = row < w.n_rows ? w.d[row] : 0.0F;
    __syncthreads();
    wait_for_kernels_before();
    const E4Lookup lookup(room.rows());
    const int4* tokens[kTiles];
    stream::find_tokens<kTiles>(x, out, lane, tokens);
    int products[kTiles][4] = {};
    E4Sums all{};
    for (int group = warp; group < n_groups; group += kWarps) {
        E4Words next{};
        const int ahead = group + kWarps;
        if (ahead < n_groups) next.load(groups + ahead * kE4GroupBytes, lane);
#pragma unroll
        for (int chunk = 0; chunk < kE4Chunks; ++chunk) {
            const int column = group * kE4Columns + chunk * kE4ChunkColumns;
            if (column >= w.stride) break;
            const int at = column / static_cast<int>(sizeof(int4));
            if constexpr (kTiles == 1) {
                all.add(words, lookup, chunk, tokens[0][at]);
            } else {
                const E4Pair pair(words, lookup, chunk);
                const int4 low = pair.low.values();
                const int4 high = pair.high.values();
#pragma unroll
                for (int i = 0; i < kTiles; ++i) {
                    const int4 v = tokens[i][at];
                    mma_i8_16x8x32(products[i], low.x, high.x, low.y, high.y, v.x, v.y);
                    mma_i8_16x8x32(products[i], low.z, high.z, low.w, high.w, v.z, v.w);
                }
            }
        }
        words = next;
    }
    if constexpr (kTiles == 1) all.total(products[0]);
    stream::finish<kTiles>(products, sums, first_row, w.n_rows, d, x, out);
}

template <int kTiles>
void launch(const E4View& w, const E4Table& table, const ActivationsView& x, const LinearOut& out,
            Stream stream) {
    const auto blocks = static_cast<unsigned>((w.n_rows + kE4TileRows - 1) / kE4TileRows);
    launch_dependent("linear_e4_stream", linear_e4_stream_sm80<kTiles>, dim3(blocks), kThreads, 0,
                     stream, w, table, x, out);
}

}  // namespace

void launch_linear_e4_stream(const E4View& w, const E4Table& table, const ActivationsView& x,
                             const LinearOut& out, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kE4StreamTokensMax);
    ETALON_ASSERT(w.stride == x.stride && w.stride % kRowAlignment == 0);
    if (out.n_tokens <= kTileTokens) return launch<1>(w, table, x, out, stream);
    if (out.n_tokens <= 2 * kTileTokens) return launch<2>(w, table, x, out, stream);
    if (out.n_tokens <= 4 * kTileTokens) return launch<4>(w, table, x, out, stream);
    launch<8>(w, table, x, out, stream);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// E8 linear layers of a few tokens: the weights stream by once, into the integer tensor cores (spec
// LIN-2, LIN-3).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/mma.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/linear_stream.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

using stream::kRows;
using stream::kThreads;
using stream::kTileTokens;
using stream::kWarps;

constexpr int kChunk = 64;  // bytes of K: 16 a lane, two products
constexpr int kUnroll = 4;  // chunks of a warp that are under way together
static_assert(kChunk == kRowAlignment, "rows are whole chunks");

/// 16 bytes of rows r and r + 8 of each of kUnroll successive chunks; zero behind the end.
struct Words {
    int4 low[kUnroll];
    int4 high[kUnroll];

    __device__ void load(const int4* const (&rows)[2], int chunk, int n_chunks) {
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            const bool there = chunk + u < n_chunks;
            constexpr int kWords = kChunk / static_cast<int>(sizeof(int4));
            low[u] = there ? load_streaming(rows[0] + (chunk + u) * kWords) : int4{};
            high[u] = there ? load_streaming(rows[1] + (chunk + u) * kWords) : int4{};
        }
    }
};

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3).
///   in:  w.q int8 [R, stride], |q| <= 127; w.d binary32 [R]; x.row_q int8 [T, stride];
///        x.row_scales [T]
///   out: out.y
///   tile: 16 rows and all tokens a block of 8 warps, which take 256 bytes of K in turn and add
///         their sums at the end; the next words are under way while some are multiplied, and the
///         first before the input is awaited, but of groups that are not settled, which are known
///         then alone
///   floor: stride + 4 bytes a row, of the read speed
///   supported: out.n_tokens <= 8 kTiles, any R, stride a multiple of 64
template <int kTiles, bool kGrouped>
__global__ void __launch_bounds__(kThreads)
    linear_e8_stream_sm80(E8View w, ActivationsView x, LinearOut out, E8Groups groups) {
    __shared__ stream::Sums<kTiles> sums;
    if constexpr (kGrouped) {
        if (!groups.settled) wait_for_kernels_before();
    }
    let_next_kernel_start();  // behind the wait for groups: to all kernels behind they are settled
    if constexpr (kGrouped) {
        // Slot 0 has a matrix always: the kernel as a whole does not end before it has waited.
        if (!enter_slot(groups, w, out)) return;
    }
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int warp = thread / kWarpLanes;
    const int first_row = static_cast<int>(blockIdx.x) * kRows;
    // Phase 1: the first weights. A row that is missing repeats the last one.
    const int4* rows[2];
#pragma unroll
    for (int high = 0; high < 2; ++high) {
        const auto row =
            static_cast<std::size_t>(min(first_row + lane / 4 + 8 * high, w.n_rows - 1));
        rows[high] = reinterpret_cast<const int4*>(w.q + row * static_cast<std::size_t>(w.stride)) +
                     lane % 4;
    }
    const int n_chunks = w.stride / kChunk;
    Words words;
    words.load(rows, warp * kUnroll, n_chunks);
    const int row = first_row + thread % kRows;
    const float d = row < w.n_rows ? w.d[row] : 0.0F;
    wait_for_kernels_before();
    // Phase 2: the products.
    const int4* tokens[kTiles];
    stream::find_tokens<kTiles>(x, out, lane, tokens);
    int products[kTiles][4] = {};
    for (int chunk = warp * kUnroll; chunk < n_chunks; chunk += kWarps * kUnroll) {
        Words next;
        next.load(rows, chunk + kWarps * kUnroll, n_chunks);
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
            if (chunk + u >= n_chunks) break;
#pragma unroll
            for (int i = 0; i < kTiles; ++i) {
                if (kGrouped && i * kTileTokens >= out.n_tokens) break;  // few of the tokens
                const int4 v = tokens[i][(chunk + u) * (kChunk / static_cast<int>(sizeof(int4)))];
                mma_i8_16x8x32(products[i], words.low[u].x, words.high[u].x, words.low[u].y,
                               words.high[u].y, v.x, v.y);
                mma_i8_16x8x32(products[i], words.low[u].z, words.high[u].z, words.low[u].w,
                               words.high[u].w, v.z, v.w);
            }
        }
        words = next;
    }
    stream::finish<kTiles>(products, sums, first_row, w.n_rows, d, x, out);
}

unsigned blocks_of(int n_rows) {
    return static_cast<unsigned>((n_rows + kRows - 1) / kRows);
}

template <int kTiles>
void launch(const E8View& w, const ActivationsView& x, const LinearOut& out, Stream stream) {
    launch_dependent("linear_e8_stream", linear_e8_stream_sm80<kTiles, false>,
                     dim3(blocks_of(w.n_rows)), kThreads, 0, stream, w, x, out, E8Groups{});
}

template <int kTiles>
void launch_groups(const E8Groups& groups, const ActivationsView& x, const LinearOut& out,
                   Stream stream) {
    const dim3 grid(blocks_of(groups.n_rows), static_cast<unsigned>(groups.n_slots));
    launch_dependent("experts_e8_stream", linear_e8_stream_sm80<kTiles, true>, grid, kThreads, 0,
                     stream, E8View{}, x, out, groups);
}

}  // namespace

void launch_linear_e8_stream(const E8View& w, const ActivationsView& x, const LinearOut& out,
                             Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kStreamTokensMax);
    ETALON_ASSERT(w.stride == x.stride && w.stride % kRowAlignment == 0);
    if (out.n_tokens <= kTileTokens) return launch<1>(w, x, out, stream);
    if (out.n_tokens <= 2 * kTileTokens) return launch<2>(w, x, out, stream);
    launch<4>(w, x, out, stream);
}

void launch_experts_e8_stream(const E8Groups& groups, const ActivationsView& x,
                              const LinearOut& out, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kStreamTokensMax);
    ETALON_ASSERT(groups.n_slots >= 1 && groups.n_slots <= groups.n_matrices);
    ETALON_ASSERT(groups.stride == x.stride && groups.stride % kRowAlignment == 0);
    if (out.n_tokens <= kTileTokens) return launch_groups<1>(groups, x, out, stream);
    if (out.n_tokens <= 2 * kTileTokens) return launch_groups<2>(groups, x, out, stream);
    launch_groups<4>(groups, x, out, stream);
}

}  // namespace etalon::backend::cuda

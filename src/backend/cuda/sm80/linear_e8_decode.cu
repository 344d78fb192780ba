// SPDX-License-Identifier: Apache-2.0
// E8 linear layers of 1 or 2 tokens: the weights stream by once (spec LIN-2, LIN-3).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/linear_out.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kRows = 4;    // of a block
constexpr int kUnroll = 2;  // loads of 16 bytes a thread and row that are under way together

/// Blocks of one token that the registers of a multiprocessor are to hold: as many with groups as
/// come without. 0: any number.
constexpr int blocks_least(int n_tokens, bool grouped) {
    return n_tokens == 1 && grouped ? 5 : 0;
}

/// 16 bytes of each row for each of kUnroll turns of the thread; zero behind the end.
using Words = int4[kUnroll][kRows];

__device__ void load(const int4* const (&rows)[kRows], int chunk, int n_chunks, Words& words) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int place = chunk + u * kThreads;
            words[u][r] = place < n_chunks ? load_streaming(rows[r] + place) : int4{};
        }
    }
}

/// Adds the products of `words` with those of each token.
template <int kTokens>
__device__ void multiply(const Words& words, const int4* const (&x)[kTokens], int chunk,
                         int n_chunks, int (&sums)[kRows][kTokens]) {
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) {
        const int place = chunk + u * kThreads;
        if (place >= n_chunks) continue;
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
            const int4 v = x[t][place];
#pragma unroll
            for (int r = 0; r < kRows; ++r) {
                int sum = sums[r][t];
                sum = __dp4a(words[u][r].x, v.x, sum);
                sum = __dp4a(words[u][r].y, v.y, sum);
                sum = __dp4a(words[u][r].z, v.z, sum);
                sums[r][t] = __dp4a(words[u][r].w, v.w, sum);
            }
        }
    }
}

/// Where the matrices of groups lie, matrix e in lane e where there are so few. They do not depend
/// on kernels before, and the table is far away: nothing has read it since the pass before.
class MatrixTable {
  public:
    __device__ explicit MatrixTable(const E8Groups& groups)
        : in_lanes_(groups.n_matrices <= kWarpLanes) {
        const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
        if (in_lanes_ && lane < groups.n_matrices) mine_ = groups.matrices[lane];
    }
    /// Matrix m, which the lanes agree on.
    __device__ E8Matrix of(const E8Groups& groups, std::int32_t m) const {
        if (!in_lanes_) return groups.matrices[m];
        return {from_lane(mine_.q, m), from_lane(mine_.d, m)};
    }

  private:
    template <typename T>
    __device__ static const T* from_lane(const T* mine, int lane) {
        const auto bits = reinterpret_cast<unsigned long long>(mine);
        return reinterpret_cast<const T*>(__shfl_sync(kFullWarp, bits, lane));
    }

    bool in_lanes_;
    E8Matrix mine_;
};

/// The tokens of slot blockIdx.y with matrix m. Where groups have one token at most, the slots
/// before have one each, and nothing has to be read.
template <int kTokens>
__device__ void enter_group(LinearOut& out, const E8Groups& groups, std::int32_t m) {
    const auto slot = static_cast<std::int32_t>(blockIdx.y);
    std::int32_t group[] = {slot, slot + 1};
    if constexpr (kTokens > 1) {
        group[0] = __ldcg(groups.begin + m);
        group[1] = __ldcg(groups.begin + m + 1);
    }
    enter_group(out, group);
}

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3).
///   in:  w.q int8 [R, stride], |q| <= 127; w.d binary32 [R]; x.row_q int8 [T, stride];
///        x.row_scales [T]
///   out: out.y
///   tile: 4 rows and all tokens a block of 4 warps; threads take 16 bytes of K in turn, so that a
///         block reads on in few places, and the next 2 turns are under way while 2 are multiplied;
///         the first are before the input is awaited, but of groups that are not settled, which
///         are known then alone
///   floor: stride + 4 bytes a row, of the read speed
///   supported: out.n_tokens <= kTokens (2 at most), any R, stride a multiple of 64
template <int kTokens, bool kGrouped>
__global__ void __launch_bounds__(kThreads, blocks_least(kTokens, kGrouped))
    linear_e8_decode_sm80(E8View w, ActivationsView x, LinearOut out, E8Groups groups) {
    static_assert(kRows * kTokens <= kWarpLanes, "a lane of the first warp finishes one product");
    __shared__ int warp_sums[kWarps][kRows * kTokens];
    const MatrixTable table(groups);
    std::int32_t m = kNoExpert;
    if constexpr (kGrouped) {
        if (!groups.settled) wait_for_kernels_before();
    }
    let_next_kernel_start();  // behind the wait for groups: to all kernels behind they are settled
    if constexpr (kGrouped) {
        // Slot 0 has a matrix always: the kernel as a whole does not end before it has waited.
        m = matrix_of_slot(groups);
        if (m == kNoExpert) return;
        w = view_of(groups, table.of(groups, m));
    }
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int first_row = static_cast<int>(blockIdx.x) * kRows;
    const int4* rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {  // a row that is missing repeats the last one
        const auto row = static_cast<std::size_t>(min(first_row + r, w.n_rows - 1));
        rows[r] = reinterpret_cast<const int4*>(w.q + row * static_cast<std::size_t>(w.stride));
    }
    const int n_chunks = w.stride / static_cast<int>(sizeof(int4));
    Words words;
    load(rows, thread, n_chunks, words);
    const int row = first_row + thread / kTokens;
    const int t = thread % kTokens;
    const bool has_row = thread < kRows * kTokens && row < w.n_rows;
    const float d = has_row ? w.d[row] : 0.0F;
    if constexpr (kGrouped) enter_group<kTokens>(out, groups, m);
    const bool finishes = has_row && t < out.n_tokens;
    wait_for_kernels_before();
    const int4* tokens[kTokens];
#pragma unroll
    for (int i = 0; i < kTokens; ++i) {
        const std::size_t token = token_of(out, min(i, out.n_tokens - 1));
        tokens[i] =
            reinterpret_cast<const int4*>(x.row_q + token * static_cast<std::size_t>(x.stride));
    }
    int sums[kRows][kTokens] = {};
    for (int begin = 0; begin < n_chunks; begin += kUnroll * kThreads) {
        Words next;
        load(rows, begin + kUnroll * kThreads + thread, n_chunks, next);
        multiply<kTokens>(words, tokens, begin + thread, n_chunks, sums);
#pragma unroll
        for (int u = 0; u < kUnroll; ++u) {
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                words[u][r] = next[u][r];
        }
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
#pragma unroll
        for (int i = 0; i < kTokens; ++i) {
            const int sum = __reduce_add_sync(kFullWarp, sums[r][i]);
            if (lane == 0) warp_sums[thread / kWarpLanes][r * kTokens + i] = sum;
        }
    }
    __syncthreads();
    if (!finishes) return;
    int sum = 0;
#pragma unroll
    for (int warp = 0; warp < kWarps; ++warp)
        sum += warp_sums[warp][thread];
    const float scale = mul(x.row_scales[token_of(out, t)], d);
    put(out, t, row, mul(static_cast<float>(sum), scale));  // LIN-3
}

unsigned blocks_of(int n_rows) {
    return static_cast<unsigned>((n_rows + kRows - 1) / kRows);
}

template <int kTokens>
void launch(const E8View& w, const ActivationsView& x, const LinearOut& out, Stream stream) {
    launch_dependent("linear_e8_decode", linear_e8_decode_sm80<kTokens, false>,
                     dim3(blocks_of(w.n_rows)), kThreads, 0, stream, w, x, out, E8Groups{});
}

template <int kTokens>
void launch_groups(const E8Groups& groups, const ActivationsView& x, const LinearOut& out,
                   Stream stream) {
    const dim3 grid(blocks_of(groups.n_rows), static_cast<unsigned>(groups.n_slots));
    launch_dependent("experts_e8_decode", linear_e8_decode_sm80<kTokens, true>, grid, kThreads, 0,
                     stream, E8View{}, x, out, groups);
}

}  // namespace

void launch_linear_e8_decode(const E8View& w, const ActivationsView& x, const LinearOut& out,
                             Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kDecodeTokensMax);
    ETALON_ASSERT(w.stride == x.stride && w.stride % kRowAlignment == 0);
    if (out.n_tokens == 1) return launch<1>(w, x, out, stream);
    launch<kDecodeTokensMax>(w, x, out, stream);
}

void launch_experts_e8_decode(const E8Groups& groups, const ActivationsView& x,
                              const LinearOut& out, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kDecodeTokensMax);
    ETALON_ASSERT(groups.n_slots >= 1 && groups.n_slots <= groups.n_matrices);
    ETALON_ASSERT(groups.stride == x.stride && groups.stride % kRowAlignment == 0);
    if (out.n_tokens == 1) return launch_groups<1>(groups, x, out, stream);
    launch_groups<kDecodeTokensMax>(groups, x, out, stream);
}

}  // namespace etalon::backend::cuda

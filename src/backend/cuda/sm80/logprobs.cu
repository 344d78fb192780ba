// SPDX-License-Identifier: Apache-2.0
// What the log-probabilities of a row are made of (spec SMP-11, SMP-12): a sum of integers, and the
// first tokens of an order.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/sm80/draw_row.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

/// The sum of P at temperature 1, the logit of the token that was drawn and those of the best ones.
///   in:  logits binary32 [rows, n] as the model gave them; draws, tokens [blocks]
///   out: sums [blocks]; of a row that wants none, or has no token, nothing
///   tile: a row a block of 32 warps, which reads it once for each best token and once more
///   floor: 4 n bytes a row and reading, of the second cache
///   supported: draws[i].n_top <= kRowTopMax
__global__ void __launch_bounds__(kRowThreads)
    logprobs_sm80(const float* logits, int n, const DrawRow* draws, const std::int32_t* tokens,
                  RowSums* sums) {
    __shared__ std::uint64_t words[kRowWarps];
    const int n_top = draws[blockIdx.x].n_top;
    const std::int32_t token = tokens[blockIdx.x];
    if (n_top < 0 || token < 0) return;
    const float* row = logits + static_cast<std::size_t>(draws[blockIdx.x].row) * n;
    const int thread = static_cast<int>(threadIdx.x);
    RowSums& out = sums[blockIdx.x];
    float largest = 0.0F;
    std::uint64_t before = ~std::uint64_t{0};
    for (int i = 0; i < max(n_top, 1); ++i) {
        std::uint64_t best = 0;
#pragma unroll 4
        for (int id = thread; id < n; id += kRowThreads) {
            const std::uint64_t order = order_of(row[id], id);
            if (order < before) best = max(best, order);
        }
        best = row_max(best, words);
        before = best;
        const bool found = best != 0;  // false: the vocabulary is smaller
        if (i == 0) largest = row[id_of(best)];
        if (thread == 0 && i < n_top)
            out.top[i] = {found ? id_of(best) : -1, found ? row[id_of(best)] : 0.0F};
        if (!found) break;
    }
    std::uint64_t sum = 0;
#pragma unroll 4
    for (int id = thread; id < n; id += kRowThreads)
        sum += probability_units(row[id], largest, 1.0F);
    sum = row_sum(sum, words);
    if (thread != 0) return;
    out.largest = largest;
    out.sum = sum;
    out.logit = row[token];
}

}  // namespace

void launch_logprobs(const float* logits, int n, const DrawRow* rows, int n_rows,
                     const std::int32_t* tokens, RowSums* sums, Stream stream) {
    ETALON_ASSERT(n >= 1 && n_rows >= 1);
    logprobs_sm80<<<static_cast<unsigned>(n_rows), kRowThreads, 0, stream>>>(logits, n, rows,
                                                                             tokens, sums);
    check_launch("logprobs");
}

}  // namespace etalon::backend::cuda

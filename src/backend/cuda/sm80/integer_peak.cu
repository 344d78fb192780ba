// SPDX-License-Identifier: Apache-2.0
// How fast the tensor cores multiply int8 by the instruction that every card has.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/ptx/mma.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * 32;
constexpr int kChains = 8;  // products of a warp that do not wait for one another
constexpr int kBlocks = 2;  // of a multiprocessor
constexpr double kProductOperations = 2.0 * 16 * 8 * 32;

/// Products of codes in registers.
///   out: sink, so that nothing is left out
///   tile: 8 warps, 8 products each in a turn
///   floor: 2 * 16 * 8 * 32 operations a product: this kernel measures the peak
__global__ void __launch_bounds__(kThreads, kBlocks) integer_peak_sm80(int n_turns, int* sink) {
    int a = static_cast<int>(threadIdx.x * 2654435761U);
    int b = static_cast<int>(threadIdx.x * 1664525U + 1013904223U);
    int sums[kChains][4] = {};
    for (int turn = 0; turn < n_turns; ++turn) {
#pragma unroll
        for (auto& chain : sums)
            mma_i8_16x8x32(chain, a, ~a, a ^ b, b, b, ~b);
    }
    int all = 0;
#pragma unroll
    for (const auto& chain : sums)
        all ^= chain[0] ^ chain[1] ^ chain[2] ^ chain[3];
    sink[blockIdx.x * kThreads + threadIdx.x] = all;
}

}  // namespace

double launch_integer_peak(int n_turns, int n_multiprocessors, int* sink, Stream stream) {
    const int n_blocks = kBlocks * n_multiprocessors;
    integer_peak_sm80<<<static_cast<unsigned>(n_blocks), kThreads, 0, stream>>>(n_turns, sink);
    check_launch("integer_peak");
    return kProductOperations * kChains * kWarps * n_turns * n_blocks;
}

}  // namespace etalon::backend::cuda

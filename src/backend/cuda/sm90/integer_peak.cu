// SPDX-License-Identifier: Apache-2.0
// How fast the tensor cores of sm_90a multiply int8: what a linear kernel can reach at most.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/ptx/wgmma.cuh"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kGroups = 2;  // warpgroups
constexpr int kThreads = kGroups * 128;
constexpr int kRowBytes = 128;
constexpr int kRows = 64;      // of the left matrix of a warpgroup
constexpr int kColumns = 256;  // rows of the right one
constexpr std::size_t kSharedBytes = (kGroups * kRows + kColumns) * kRowBytes;
constexpr int kProductK = 32;
[[maybe_unused]] constexpr int kProducts = kRowBytes / kProductK;  // of a turn

/// Products of codes that lie in shared memory.
///   out: sink, so that nothing is left out
///   tile: two warpgroups multiply 64 x 256 over 128 bytes of K in each turn
///   floor: 2 * 64 * 256 * 128 operations a warpgroup and turn: this kernel measures the peak
__global__ void __launch_bounds__(kThreads, 1) integer_peak_sm90(int n_turns, int* sink) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) std::uint32_t words[];
    // Codes of all sizes: products of zeros take less power, and the card would run faster.
    std::uint32_t state = threadIdx.x * 2654435761U + 1;
    for (std::size_t i = threadIdx.x; i < kSharedBytes / sizeof(std::uint32_t); i += kThreads) {
        state = state * 1664525U + 1013904223U;
        words[i] = state ^ (state >> 16);
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    __syncthreads();
    const auto* bytes = reinterpret_cast<const std::int8_t*>(words);
    const std::int8_t* left = bytes + threadIdx.x / 128 * kRows * kRowBytes;
    const std::int8_t* right = bytes + kGroups * kRows * kRowBytes;
    int sums[kColumns / 2];
    for (int turn = 0; turn < n_turns; ++turn) {
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kProducts; ++k) {
            wgmma_i8(sums, wgmma_rows(left + k * kProductK), wgmma_rows(right + k * kProductK),
                     turn > 0 || k > 0 ? 1 : 0);
        }
        wgmma_commit();
        wgmma_wait<0>();
    }
    int all = 0;
#pragma unroll
    for (const int sum : sums)
        all ^= sum;
    sink[blockIdx.x * kThreads + threadIdx.x] = all;
#endif
}

}  // namespace

double launch_integer_peak_sm90(int n_turns, int n_multiprocessors, int* sink, Stream stream) {
    check(cudaFuncSetAttribute(integer_peak_sm90, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               kSharedBytes),
          "shared memory of integer_peak");
    integer_peak_sm90<<<static_cast<unsigned>(n_multiprocessors), kThreads, kSharedBytes, stream>>>(
        n_turns, sink);
    check_launch("integer_peak");
    return 2.0 * kGroups * kRows * kColumns * kRowBytes * n_turns * n_multiprocessors;
}

}  // namespace etalon::backend::cuda

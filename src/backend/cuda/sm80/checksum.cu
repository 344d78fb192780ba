// SPDX-License-Identifier: Apache-2.0
// The checksum of logits (spec CHK-1).
#include <algorithm>
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::size_t kBlocksMax = 256;
/// Floats of a thread where rows are enough to fill the card: fewer additions meet in a sum.
constexpr std::size_t kEach = 8;
constexpr int kManyRows = 16;
constexpr int kGridRowsMax = 65535;

/// sum = sum_i bits(logit_i) (2 i + 1) mod 2^64; sums of integers have no order (CHK-1).
///   in:  rows binary32 [rows, n]
///   out: sums u64 [rows], zero before
///   tile: a row a block in y, 256 threads, a grid stride; one atomic addition a warp
///   floor: 4 n bytes a row, of the read speed
///   supported: any n
__global__ void __launch_bounds__(kThreads)
    checksum_sm80(const float* rows, std::size_t n, unsigned long long* sums) {
    const float* logits = rows + blockIdx.y * n;
    unsigned long long mine = 0;
    const std::size_t step = std::size_t{gridDim.x} * kThreads;
#pragma unroll 8
    for (std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x; i < n; i += step)
        mine += static_cast<unsigned long long>(__float_as_uint(logits[i])) * (2 * i + 1);
    for (int half = kWarpLanes / 2; half >= 1; half /= 2)
        mine += __shfl_xor_sync(kFullWarp, mine, half);
    if (threadIdx.x % kWarpLanes == 0) atomicAdd(sums + blockIdx.y, mine);
}

}  // namespace

void launch_checksum(const float* logits, int n_rows, std::size_t n, std::uint64_t* sums,
                     Stream stream) {
    static_assert(sizeof(unsigned long long) == sizeof(std::uint64_t));
    ETALON_ASSERT(n_rows >= 1 && n_rows <= kGridRowsMax);
    check(cudaMemsetAsync(sums, 0, sizeof(*sums) * static_cast<std::size_t>(n_rows), stream),
          "checksum");
    const std::size_t each = n_rows >= kManyRows ? kEach * kThreads : kThreads;
    const std::size_t blocks = std::min((n + each - 1) / each, kBlocksMax);
    const dim3 grid(static_cast<unsigned>(blocks), static_cast<unsigned>(n_rows));
    checksum_sm80<<<grid, kThreads, 0, stream>>>(logits, n,
                                                 reinterpret_cast<unsigned long long*>(sums));
    check_launch("checksum");
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// How fast the card reads its memory: what a streaming kernel can reach at most.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kLoads = 8;  // of 16 bytes under way in each thread

/// Reads everything once.
///   in:  from, 16-byte words
///   out: sink, written only if all bits of a thread's words cancel to a value that they never have
///   tile: a block reads 256 * 8 words, then ends
///   floor: the bytes, of the read speed: this kernel measures it
///   supported: whole tiles; what is left is not read
__global__ void __launch_bounds__(kThreads) read_sm80(const int4* from, std::uint32_t* sink) {
    const int4* mine = from + std::size_t{blockIdx.x} * kThreads * kLoads + threadIdx.x;
    int4 words[kLoads];
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
        words[i] = load_streaming(mine + i * kThreads);
    std::uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < kLoads; ++i)
        all |= static_cast<std::uint32_t>(words[i].x | words[i].y | words[i].z | words[i].w);
    if (all == 0xFFFFFFFFU) *sink = all;
}

}  // namespace

void launch_read(const std::byte* from, std::size_t bytes, std::uint32_t* sink, Stream stream) {
    const std::size_t blocks = bytes / (sizeof(int4) * kThreads * kLoads);
    read_sm80<<<static_cast<unsigned>(blocks), kThreads, 0, stream>>>(
        reinterpret_cast<const int4*>(from), sink);
    check_launch("read");
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// A page of the cache in every layer to zeros. One launch: a page that is given back is cleared
// between two passes, and a memset for each layer and array would keep the card waiting.
#include <cuda_runtime.h>

#include "backend/cuda/common/kv_address.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;

/// n bytes from byte `first` of `all`; both are multiples of 16.
__device__ void zero(void* all, std::size_t first, std::size_t n) {
    auto* words = reinterpret_cast<int4*>(static_cast<char*>(all) + first);
    for (std::size_t i = threadIdx.x; i < n / sizeof(int4); i += kThreads)
        words[i] = int4{0, 0, 0, 0};
}

/// Keys, values and scales of `page` of every head.
///   tile: a block a layer and array
///   floor: n_kv_heads * 64 * (2 dim_stride + 8) bytes a layer written, of the write speed
///   supported: any shape; dim_stride is a multiple of 16
__global__ void __launch_bounds__(kThreads) clear_page_sm80(KvView kv, int page) {
    let_next_kernel_start();
    wait_for_kernels_before();
    const std::size_t first = head_page(kv, static_cast<int>(blockIdx.x), page, 0) * kPageSlots;
    const std::size_t n = static_cast<std::size_t>(kv.n_kv_heads) * kPageSlots;
    const auto stride = static_cast<std::size_t>(kv.dim_stride);
    if (blockIdx.y == 0) zero(kv.keys, first * stride, n * stride);
    if (blockIdx.y == 1) zero(kv.values, first * stride, n * stride);
    if (blockIdx.y == 2) {
        zero(kv.key_scales, first * sizeof(float), n * sizeof(float));
        zero(kv.value_scales, first * sizeof(float), n * sizeof(float));
    }
}

}  // namespace

void launch_clear_page(const KvView& kv, int n_layers, int page, Stream stream) {
    launch_dependent("clear_page", clear_page_sm80, dim3(static_cast<unsigned>(n_layers), 3),
                     kThreads, 0, stream, kv, page);
}

}  // namespace etalon::backend::cuda

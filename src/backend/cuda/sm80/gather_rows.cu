// SPDX-License-Identifier: Apache-2.0
// Rows of activations that do not follow each other, put together for kernels that read them so.
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;

/// to[i] = from[rows[i]].
///   in:  from.row_q int8 [T, stride], from.row_scales [T]; rows [n]
///   out: to.row_q, to.row_scales
///   tile: a row a block
///   floor: stride + 4 bytes a row read and written, of the read speed
///   supported: stride a multiple of 16
__global__ void __launch_bounds__(kThreads)
    gather_rows_sm80(ActivationsView from, const std::int32_t* rows, ActivationsView to) {
    let_next_kernel_start();
    wait_for_kernels_before();
    const std::size_t i = blockIdx.x;
    const auto row = static_cast<std::size_t>(rows[i]);
    const auto stride = static_cast<std::size_t>(from.stride);
    const auto* source = reinterpret_cast<const int4*>(from.row_q + row * stride);
    auto* target = reinterpret_cast<int4*>(to.row_q + i * stride);
    for (std::size_t word = threadIdx.x; word < stride / sizeof(int4); word += kThreads)
        target[word] = source[word];
    if (threadIdx.x == 0) to.row_scales[i] = from.row_scales[row];
}

}  // namespace

void launch_gather_rows(const ActivationsView& from, const std::int32_t* rows, int n_rows,
                        const ActivationsView& to, Stream stream) {
    ETALON_ASSERT(from.stride == to.stride && from.row_q != nullptr && to.row_q != nullptr);
    launch_dependent("gather_rows", gather_rows_sm80, dim3(static_cast<unsigned>(n_rows)), kThreads,
                     0, stream, from, rows, to);
}

}  // namespace etalon::backend::cuda

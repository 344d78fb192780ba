// SPDX-License-Identifier: Apache-2.0
// Launches as src/backend/cuda/common/launch.cuh has them: the blocks have run when they return.
#pragma once

#include "backend/cuda/sm80/kernels.h"
#include "backend/emulated/intrinsics.h"

namespace etalon::backend::cuda {

template <typename Kernel>
void let_have_shared(const char*, Kernel, int) {}

/// The blocks of a cluster do not meet: one after the other has run.
template <typename... Parameters, typename... Arguments>
void launch_cluster(const char*, void (*kernel)(Parameters...), dim3 grid, int threads, int,
                    std::size_t, Stream, const Arguments&... arguments) {
    emulated::run_blocks(grid, threads, [&] { kernel(static_cast<Parameters>(arguments)...); });
}

template <typename... Parameters, typename... Arguments>
void launch_dependent(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads,
                      std::size_t bytes, Stream stream, const Arguments&... arguments) {
    launch_cluster(name, kernel, grid, threads, 1, bytes, stream, arguments...);
}

}  // namespace etalon::backend::cuda

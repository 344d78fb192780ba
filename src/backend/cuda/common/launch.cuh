// SPDX-License-Identifier: Apache-2.0
// Launch of a kernel that may start before the one ahead of it has ended
// (ptx/dependent_launch.cuh).
//   launch_dependent("embed", embed_sm80, grid, kThreads, 0, stream, batch, embedding, h);
// The kernel calls wait_for_kernels_before() ahead of its first access to anything that a kernel
// writes, and ahead of its own first write; what RoutingView::settled says is read before.
#pragma once

#include <cstddef>
#include <cuda_runtime.h>
#include <string>

#include "backend/cuda/common/error.h"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

/// True where the kernels that the current card runs were compiled for 9.0 or newer, so that they
/// know how to wait. A card can be newer than its kernels: it then runs the PTX of 8.0.
bool has_dependent_launch();

/// Lets blocks of the kernel have so much shared memory.
template <typename Kernel>
void let_have_shared(const char* name, Kernel kernel, int bytes) {
    const auto result =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (result != cudaSuccess) check(result, ("shared memory of " + std::string(name)).c_str());
}

/// The same with clusters of `cluster` blocks in x (sm_90).
template <typename... Parameters, typename... Arguments>
void launch_cluster(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads,
                    int cluster, std::size_t shared_bytes, Stream stream,
                    const Arguments&... arguments) {
    cudaLaunchAttribute attributes[2] = {};
    unsigned n = 0;
    if (has_dependent_launch()) {
        attributes[n].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[n++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (cluster > 1) {
        attributes[n].id = cudaLaunchAttributeClusterDimension;
        attributes[n].val.clusterDim.x = static_cast<unsigned>(cluster);
        attributes[n].val.clusterDim.y = 1;
        attributes[n++].val.clusterDim.z = 1;
    }
    cudaLaunchConfig_t config{};
    config.gridDim = grid;
    config.blockDim = dim3(static_cast<unsigned>(threads));
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    config.numAttrs = n;
    check(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...), name);
}

template <typename... Parameters, typename... Arguments>
void launch_dependent(const char* name, void (*kernel)(Parameters...), dim3 grid, int threads,
                      std::size_t shared_bytes, Stream stream, const Arguments&... arguments) {
    launch_cluster(name, kernel, grid, threads, 1, shared_bytes, stream, arguments...);
}

}  // namespace etalon::backend::cuda

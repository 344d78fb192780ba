// SPDX-License-Identifier: Apache-2.0
// Which version of the kernels of this program the card runs, and what that one can do.
#include <array>
#include <atomic>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kDevicesMax = 64;
constexpr int kCompiledFor = 90;  // ptx/dependent_launch.cuh

/// Never launched: which of its versions the card would run is that of all kernels.
__global__ void probe() {}

/// The version of the kernels that the current card runs: 90, or 80 of the PTX.
int kernels_version() {
    static std::array<std::atomic<int>, kDevicesMax> versions{};  // 0: not asked yet
    int device = 0;
    check(cudaGetDevice(&device), "current device");
    ETALON_ASSERT(device >= 0 && device < kDevicesMax);
    std::atomic<int>& version = versions[static_cast<std::size_t>(device)];
    if (version.load(std::memory_order_relaxed) == 0) {
        cudaFuncAttributes attributes{};
        check(cudaFuncGetAttributes(&attributes, probe), "version of the kernels");
        version.store(attributes.ptxVersion, std::memory_order_relaxed);
    }
    return version.load(std::memory_order_relaxed);
}

}  // namespace

bool has_dependent_launch() {
    return kernels_version() >= kCompiledFor;
}

bool card_has_sm90_kernels() {
#if defined(ETALON_CUDA_SM90A)
    return kernels_version() == kCompiledFor;
#else
    return false;
#endif
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Whether the kernels of this program can be launched before the ones ahead of them have ended.
#include <array>
#include <atomic>

#include "backend/cuda/common/launch.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kDevicesMax = 64;
constexpr int kCompiledFor = 90;  // ptx/dependent_launch.cuh

/// Never launched: which of its versions the card would run is that of all kernels.
__global__ void probe() {}

}  // namespace

bool has_dependent_launch() {
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
    return version.load(std::memory_order_relaxed) >= kCompiledFor;
}

}  // namespace etalon::backend::cuda

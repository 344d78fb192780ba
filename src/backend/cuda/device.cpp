// SPDX-License-Identifier: Apache-2.0
// Cards: which there are, and one of them as the backend uses it.
#include "backend/cuda/device.h"

#include <algorithm>
#include <array>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <vector>

#include "backend/cuda/common/error.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"
#include "exact/rotate.h"

namespace etalon::backend {

namespace cuda {

namespace {

constexpr int kMajorMin = 8;  // mma.sync on int8 of 32 elements, cp.async
constexpr int kDctMin = 3;
constexpr int kDctMax = 15;

/// Where the table of length m starts among all.
std::size_t dct_offset(int m) {
    std::size_t offset = 0;
    for (int i = kDctMin; i < m; i += 2)
        offset += static_cast<std::size_t>(i) * static_cast<std::size_t>(i);
    return offset;
}

/// Why a card cannot be used; empty when it can.
std::string problem_of(const cudaDeviceProp& properties) {
    if (properties.major < kMajorMin) {
        return fmt::format("compute capability {}.{}, at least {}.0 is needed", properties.major,
                           properties.minor, kMajorMin);
    }
    return "";
}

}  // namespace

Device::Device(int index, CudaKernels kernels) : index_(index) {
    const CudaState state = cuda_state();
    const auto n = static_cast<int>(state.devices.size());
    if (index < 0 || index >= n) {
        throw Error(ExitCode::unavailable,
                    fmt::format("cuda:{}: no such card: {}", index,
                                n == 0 ? state.problem : fmt::format("there are {}", n)),
                    "etalon doctor lists the cards");
    }
    const CudaDevice& device = state.devices[static_cast<std::size_t>(index)];
    if (!device.problem.empty()) {
        throw Error(ExitCode::unavailable, fmt::format("cuda:{}: {}", index, device.problem),
                    "--device cpu works without the card");
    }
    use();
    check(cudaDeviceGetAttribute(&n_multiprocessors_, cudaDevAttrMultiProcessorCount, index),
          "number of multiprocessors");
    has_sm90_ = kernels != CudaKernels::sm80 && card_has_sm90_kernels();
    check(cudaStreamCreate(&stream_), "stream");
    if (has_sm90_) {
        sums_ = DeviceArray<std::int32_t>(split_sums_ints(n_multiprocessors_));
        counts_ = DeviceArray<std::uint32_t>(static_cast<std::size_t>(n_multiprocessors_));
    }
    std::vector<float> tables;
    for (int m = kDctMin; m <= kDctMax; m += 2) {
        const auto table = exact::dct_table(m);
        tables.insert(tables.end(), table.begin(), table.end());
    }
    dct_tables_ = DeviceArray<float>(tables.size());
    dct_tables_.upload(tables.data(), tables.size());
}

Device::~Device() {
    if (stream_ != nullptr) (void)cudaStreamDestroy(stream_);
}

void Device::use() const {
    check(cudaSetDevice(index_), "choice of the card");
}

SplitSums Device::split_sums() const noexcept {
    return {sums_.data(), counts_.data(), static_cast<int>(counts_.size())};
}

std::int8_t* Device::e8_rows(std::size_t bytes) const {
    ETALON_ASSERT(bytes <= e8_rows_.size());
    return e8_rows_.data();
}

std::size_t Device::free_bytes() const {
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    check(cudaMemGetInfo(&free_bytes, &total_bytes), "free memory");
    return free_bytes;
}

const float* Device::dct_table(int m) const {
    ETALON_ASSERT(m % 2 == 1 && m >= kDctMin && m <= kDctMax);
    return dct_tables_.data() + dct_offset(m);
}

}  // namespace cuda

CudaState cuda_state() {
    CudaState state;
    int n = 0;
    const cudaError_t code = cudaGetDeviceCount(&n);
    if (code != cudaSuccess) {
        (void)cudaGetLastError();
        state.problem = code == cudaErrorInsufficientDriver ? "no driver, or one that is too old"
                                                            : cudaGetErrorString(code);
        return state;
    }
    if (n == 0) state.problem = "no card";
    for (int i = 0; i < n; ++i) {
        cudaDeviceProp properties{};
        CudaDevice device;
        device.index = i;
        if (cudaGetDeviceProperties(&properties, i) != cudaSuccess) {
            device.problem = cudaGetErrorString(cudaGetLastError());
        } else {
            device.name = properties.name;
            device.major = properties.major;
            device.minor = properties.minor;
            device.memory_bytes = properties.totalGlobalMem;
            device.problem = cuda::problem_of(properties);
        }
        state.devices.push_back(std::move(device));
    }
    return state;
}

}  // namespace etalon::backend

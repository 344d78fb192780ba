// SPDX-License-Identifier: Apache-2.0
// Results of CUDA calls as errors of Etalon.
#include "backend/cuda/common/error.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr double kMebibyte = 1048576.0;

int current_device() {
    int device = 0;
    return cudaGetDevice(&device) == cudaSuccess ? device : 0;
}

/// An error that every later call would give again: the process needs a new context.
bool is_fatal(cudaError_t code) {
    return code != cudaErrorMemoryAllocation && code != cudaErrorInvalidValue &&
           code != cudaErrorInvalidConfiguration;
}

}  // namespace

void check(int code, const char* what) {
    if (code == cudaSuccess) return;
    const auto error = static_cast<cudaError_t>(code);
    (void)cudaGetLastError();  // a later launch must not report this error again
    if (error == cudaErrorMemoryAllocation) check_allocation(code, 0);
    throw Error(ExitCode::unavailable,
                fmt::format("cuda:{}: {}: {} ({})", current_device(), what,
                            cudaGetErrorString(error), cudaGetErrorName(error)),
                is_fatal(error) ? "nvidia-smi and the kernel's log tell whether the card is lost; "
                                  "--device cpu works without it"
                                : "--device cpu works without the card");
}

void check_allocation(int code, std::uint64_t bytes) {
    if (code != cudaErrorMemoryAllocation) return check(code, "allocation");
    (void)cudaGetLastError();
    std::size_t free_bytes = 0;
    std::size_t total_bytes = 0;
    if (cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) (void)cudaGetLastError();
    throw Error(ExitCode::out_of_memory,
                fmt::format("cuda:{}: {:.0f} MiB do not fit: {:.0f} of {:.0f} MiB are free",
                            current_device(), static_cast<double>(bytes) / kMebibyte,
                            static_cast<double>(free_bytes) / kMebibyte,
                            static_cast<double>(total_bytes) / kMebibyte),
                "use a smaller model, a shorter context (--context), or --device cpu");
}

void check_launch(const char* kernel) {
    check(cudaGetLastError(), kernel);
}

}  // namespace etalon::backend::cuda

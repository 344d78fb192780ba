// SPDX-License-Identifier: Apache-2.0
// A build without nvcc: no cards.
#include <fmt/format.h>

#include "backend/cuda/cuda.h"
#include "base/error.h"

namespace etalon::backend {

CudaState cuda_state() {
    return {{}, "built without nvcc"};
}

std::unique_ptr<Backend> make_cuda_backend(int index, CudaKernels) {
    throw Error(ExitCode::unavailable, fmt::format("cuda:{}: built without nvcc", index),
                "install the CUDA toolkit and build again, or use --device cpu");
}

std::optional<double> cuda_read_speed(int) {
    return std::nullopt;
}

std::optional<double> cuda_integer_peak(int) {
    return std::nullopt;
}

}  // namespace etalon::backend

// SPDX-License-Identifier: Apache-2.0
// What all linear kernels do with a finished product (spec LIN-1, RES-1).
#pragma once

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

/// The token whose input row i of y takes.
__device__ inline std::size_t token_of(const LinearOut& out, int i) {
    return static_cast<std::size_t>(out.token_of == nullptr ? i : out.token_of[i]);
}

/// y[i, row] = product (+ bias), or added to what is there.
__device__ inline void put(const LinearOut& out, int i, int row, float product) {
    float value = product;
    if (out.bias != nullptr) value = add(value, out.bias[row]);
    float& y = out.y[static_cast<std::size_t>(i) * out.y_stride + static_cast<std::size_t>(row)];
    y = out.add ? add(y, value) : value;  // RES-1
}

}  // namespace etalon::backend::cuda

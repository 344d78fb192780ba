// SPDX-License-Identifier: Apache-2.0
// The rounded operations of src/backend/cuda/common/exact_math.cuh; tests are compiled without
// contraction.
#pragma once

#include <cmath>

namespace etalon::backend::cuda {

inline float add(float a, float b) {
    return a + b;
}
inline float mul(float a, float b) {
    return a * b;
}
inline float fused(float a, float b, float c) {
    return std::fma(a, b, c);
}

}  // namespace etalon::backend::cuda

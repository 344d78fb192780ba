// SPDX-License-Identifier: Apache-2.0
// Instructions on floats.
#pragma once

#include <cmath>
#include <limits>

#include "backend/emulated/intrinsics.h"

namespace etalon::backend::cuda {

inline float reciprocal_near(float b) {
    return 1.0F / b;
}
inline float larger_or_nan(float a, float b) {
    return std::isunordered(a, b) ? std::numeric_limits<float>::quiet_NaN() : std::fmax(a, b);
}

}  // namespace etalon::backend::cuda

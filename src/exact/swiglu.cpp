// SPDX-License-Identifier: Apache-2.0
// SwiGLU (spec SWI-1).
#include "exact/swiglu.h"

#include "exact/math.h"

namespace etalon::exact {

float swiglu(float g, float u) noexcept {  // SWI-1
    float x = -g * kLog2E;
    // In the order of the x86 max and min: a NaN becomes the bound, and g / ... is NaN by itself.
    x = x > -126.0F ? x : -126.0F;
    x = x < 126.0F ? x : 126.0F;
    return (g / (1.0F + exp2(x))) * u;
}

}  // namespace etalon::exact

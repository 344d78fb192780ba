// SPDX-License-Identifier: Apache-2.0
// SwiGLU (spec SWI-1) and residual addition.
#pragma once

#include <span>

namespace etalon::exact {

/// (g / (1 + exp2(clamp(-g * log2e, -126, 126)))) * u (SWI-1). A NaN in g gives a NaN, which the
/// quantisation that follows finds.
float swiglu(float g, float u) noexcept;

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Conversions.
#pragma once

#include "exact/formats.h"

namespace etalon::backend::cuda {

inline float float_from_f16(std::uint16_t bits) {
    return exact::float_from_f16(bits);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Quantised inputs of linear layers as the CPU backend keeps them.
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cpu/aligned.h"
#include "backend/operations.h"

namespace etalon::backend::cpu {

/// Token-major arrays; a token's row starts at token * n_cols. Only the arrays of `forms` exist.
struct CpuActivations final : Activations {
    AlignedVector<std::int8_t> row_q;       ///< [T, K], |q| <= 127 (QNT-2)
    AlignedVector<float> row_scales;        ///< [T]
    AlignedVector<std::int8_t> block_q;     ///< [T, K], |q| <= 127 (QNT-3)
    AlignedVector<float> block_scales;      ///< [T, K / 32]
    AlignedVector<std::int16_t> half_sums;  ///< [T, K / 16]: sums of 16 successive block_q
    AlignedVector<float> floats;            ///< [T, K]
};

}  // namespace etalon::backend::cpu

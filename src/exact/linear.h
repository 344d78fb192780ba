// SPDX-License-Identifier: Apache-2.0
// A linear layer, one weight row times one token (spec LIN-1 to LIN-7).
//   row-scaled:  y = float(sum_k q_w q_x) * (a * d)
//   blocked:     acc = fma(float(p_b), d_b * a_b, acc), then fma(float(s_b), m_b * a_b, acc)
//   floating:    y = dot product in 256 lanes
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "exact/formats.h"

namespace etalon::exact {

/// Largest K of a row-scaled linear layer: 131,072 * 127 * 127 < 2^31 (LIN-2).
inline constexpr std::size_t kLinearKMax = 131072;

/// sum_k q_w[k] q_x[k] in int32; |q| <= 127, at most kLinearKMax elements (LIN-2).
std::int32_t dot_i8(std::span<const std::int8_t> q_w, std::span<const std::int8_t> q_x) noexcept;
/// float(sum) * (a * d) (LIN-3).
float scale_sum(std::int32_t sum, float a, float d) noexcept;

/// One E4 row to int8 (FMT-17): codes[k / 2] low nibble first, scale_index[k / 32] low nibble
/// first, one index for 16 elements; k is a multiple of 32.
void decode_e4(std::span<const std::byte> codes, std::span<const std::byte> scale_index,
               std::span<std::int8_t> q_w) noexcept;

/// A blocked row times a token quantised per 32 elements: q_x[k], a[k / 32] (LIN-4 to LIN-6).
float linear_blocked(Format format, std::span<const std::byte> row,
                     std::span<const std::int8_t> q_x, std::span<const float> a);

/// The same for a row that is decoded already, so that several tokens share the decoding.
float linear_blocked(bool has_minimum, std::span<const Block32> row,
                     std::span<const std::int8_t> q_x, std::span<const float> a) noexcept;

/// A floating row times a float token (LIN-7).
float linear_floating(Format format, std::span<const std::byte> row, std::span<const float> x);

}  // namespace etalon::exact

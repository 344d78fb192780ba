// SPDX-License-Identifier: Apache-2.0
// RMS norm and float dot products in 256 lanes (spec SUM-1, NRM-1 to NRM-3).
#pragma once

#include <cstddef>
#include <span>

namespace etalon::exact {

/// Lanes of every float sum over a row (SUM-1): the widest that one token uses on a GPU.
inline constexpr std::size_t kLanes = 256;

/// Lane l sums elements l, l + 256, ... by fma from +0; then halves are added, 128, 64, ... 1.
float dot_lanes(std::span<const float> a, std::span<const float> b) noexcept;  // SUM-1

/// 1 / sqrt(ss / n + eps), ss the sum of squares of h in 256 lanes (NRM-1). Not finite or zero when
/// h is not: the caller checks with norm_scale_is_valid (ERR-1).
float norm_scale(std::span<const float> h, float eps) noexcept;
/// True for a finite scale above zero.
bool norm_scale_is_valid(float scale) noexcept;

/// z = w * h elementwise, what is rotated and quantised (NRM-2).
void norm_weigh(std::span<const float> h, std::span<const float> w, std::span<float> z) noexcept;

}  // namespace etalon::exact

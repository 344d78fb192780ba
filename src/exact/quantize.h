// SPDX-License-Identifier: Apache-2.0
// Activations as int8 with one binary32 scale, per row or per 32 elements (spec QNT-1 to QNT-4).
#pragma once

#include <cstdint>
#include <span>

namespace etalon::exact {

/// Below this largest magnitude a vector counts as zero: 127 / amax would overflow under 3.7e-37.
inline constexpr float kAmaxMin = 1e-30F;

/// Bits of the largest magnitude: the integer maximum of bits(x) & 0x7fffffff (QNT-1). At or above
/// kInfinityBits when an element is infinite or NaN.
std::uint32_t amax_bits(std::span<const float> x) noexcept;
inline constexpr std::uint32_t kInfinityBits = 0x7F800000;

struct QuantizeResult {
    float scale = 0.0F;  ///< a = amax / 127; 0 when the vector counts as zero or is not finite
    bool finite = true;  ///< false: an element is infinite or NaN; q is all 0 (ERR-1)
};

/// q[i] = rne(x[i] * (127 / amax)), |q| <= 127 (QNT-2). Sizes are equal.
QuantizeResult quantize(std::span<const float> x, std::span<std::int8_t> q) noexcept;

/// The same for each 32 elements on their own (QNT-3): scales[x.size() / 32]; x.size() is a
/// multiple of 32. Returns false when any element is not finite; then all q and scales are 0.
bool quantize_blocks(std::span<const float> x, std::span<std::int8_t> q,
                     std::span<float> scales) noexcept;

}  // namespace etalon::exact

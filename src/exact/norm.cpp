// SPDX-License-Identifier: Apache-2.0
// RMS norm and float dot products in 256 lanes (spec SUM-1, NRM-1, NRM-2).
#include "exact/norm.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "exact/math.h"
#include "exact/quantize.h"

namespace etalon::exact {

float dot_lanes(std::span<const float> a, std::span<const float> b) noexcept {  // SUM-1
    ETALON_ASSERT(a.size() == b.size());
    std::array<float, kLanes> lanes{};
    for (std::size_t i = 0; i < a.size(); ++i) {
        lanes[i % kLanes] = fma(a[i], b[i], lanes[i % kLanes]);
    }
    for (std::size_t half = kLanes / 2; half >= 1; half /= 2) {
        for (std::size_t l = 0; l < half; ++l)
            lanes[l] += lanes[l + half];
    }
    return lanes[0];
}

float norm_scale(std::span<const float> h, float eps) noexcept {  // NRM-1
    const float mean = dot_lanes(h, h) / static_cast<float>(h.size());
    return 1.0F / std::sqrt(mean + eps);
}

bool norm_scale_is_valid(float scale) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(scale);
    return bits > 0 && bits < kInfinityBits;
}

void norm_weigh(std::span<const float> h, std::span<const float> w, std::span<float> z) noexcept {
    ETALON_ASSERT(h.size() == w.size() && h.size() == z.size());
    for (std::size_t i = 0; i < h.size(); ++i)
        z[i] = w[i] * h[i];  // NRM-2
}

}  // namespace etalon::exact

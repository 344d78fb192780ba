// SPDX-License-Identifier: Apache-2.0
// Activations as int8 (spec QNT-1 to QNT-4).
#include "exact/quantize.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "exact/formats.h"
#include "exact/math.h"

namespace etalon::exact {

std::uint32_t amax_bits(std::span<const float> x) noexcept {  // QNT-1
    std::uint32_t largest = 0;
    for (const float value : x) {
        largest = std::max(largest, std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFU);
    }
    return largest;
}

QuantizeResult quantize(std::span<const float> x, std::span<std::int8_t> q) noexcept {
    ETALON_ASSERT(x.size() == q.size());
    const std::uint32_t bits = amax_bits(x);
    const auto amax = std::bit_cast<float>(bits);
    if (bits >= kInfinityBits || amax < kAmaxMin) {  // QNT-4, ERR-1
        std::fill(q.begin(), q.end(), std::int8_t{0});
        return {0.0F, bits < kInfinityBits};
    }
    const float inverse = 127.0F / amax;  // QNT-2
    for (std::size_t i = 0; i < x.size(); ++i) {
        q[i] = static_cast<std::int8_t>(rne(x[i] * inverse));
    }
    return {amax / 127.0F, true};
}

bool quantize_blocks(std::span<const float> x, std::span<std::int8_t> q,
                     std::span<float> scales) noexcept {  // QNT-3
    ETALON_ASSERT(x.size() % kBlock == 0 && scales.size() == x.size() / kBlock);
    bool finite = true;
    for (std::size_t b = 0; b < scales.size(); ++b) {
        const auto result = quantize(x.subspan(b * kBlock, kBlock), q.subspan(b * kBlock, kBlock));
        scales[b] = result.scale;
        finite = finite && result.finite;
    }
    if (!finite) {
        std::fill(q.begin(), q.end(), std::int8_t{0});
        std::fill(scales.begin(), scales.end(), 0.0F);
    }
    return finite;
}

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// A linear layer, one weight row times one token (spec LIN-1 to LIN-7).
#include "exact/linear.h"

#include <vector>

#include "base/error.h"
#include "exact/math.h"
#include "exact/norm.h"

namespace etalon::exact {

std::int32_t dot_i8(std::span<const std::int8_t> q_w,
                    std::span<const std::int8_t> q_x) noexcept {  // LIN-2
    ETALON_ASSERT(q_w.size() == q_x.size() && q_w.size() <= kLinearKMax);
    std::int32_t sum = 0;
    for (std::size_t k = 0; k < q_w.size(); ++k)
        sum += q_w[k] * q_x[k];
    return sum;
}

float scale_sum(std::int32_t sum, float a, float d) noexcept {  // LIN-3
    return static_cast<float>(sum) * (a * d);
}

void decode_e4(std::span<const std::byte> codes, std::span<const std::byte> scale_index,
               std::span<std::int8_t> q_w) noexcept {  // FMT-17
    ETALON_ASSERT(q_w.size() % 32 == 0 && codes.size() == q_w.size() / 2);
    ETALON_ASSERT(scale_index.size() == q_w.size() / 32);
    const auto nibble = [](std::span<const std::byte> bytes, std::size_t i) {
        return (std::to_integer<unsigned>(bytes[i / 2]) >> (4 * (i % 2))) & 15U;
    };
    for (std::size_t k = 0; k < q_w.size(); ++k) {
        q_w[k] = kE4Table[nibble(scale_index, k / 16)][nibble(codes, k)];
    }
}

float linear_blocked(bool has_minimum, std::span<const Block32> row,
                     std::span<const std::int8_t> q_x, std::span<const float> a) noexcept {
    ETALON_ASSERT(q_x.size() == a.size() * kBlock && row.size() == a.size());
    float acc = 0.0F;
    for (std::size_t b = 0; b < a.size(); ++b) {  // LIN-5: blocks ascending
        const Block32& w = row[b];
        std::int32_t product = 0;
        std::int32_t minimum = 0;
        for (std::size_t half = 0; half < 2; ++half) {  // LIN-4
            std::int32_t sum_wx = 0;
            std::int32_t sum_x = 0;
            for (std::size_t i = half * 16; i < half * 16 + 16; ++i) {
                sum_wx += w.q[i] * q_x[b * kBlock + i];
                sum_x += q_x[b * kBlock + i];
            }
            product += w.sub_scale[half] * sum_wx;
            minimum += w.sub_min[half] * sum_x;
        }
        acc = fma(static_cast<float>(product), w.d * a[b], acc);                   // LIN-5
        if (has_minimum) acc = fma(static_cast<float>(minimum), w.m * a[b], acc);  // LIN-6
    }
    return acc;
}

float linear_blocked(Format format, std::span<const std::byte> row,
                     std::span<const std::int8_t> q_x, std::span<const float> a) {
    std::vector<Block32> blocks(a.size());
    for (std::size_t b = 0; b < blocks.size(); ++b)
        blocks[b] = decode_block32(format, row, b);
    return linear_blocked(format_has_minimum(format), blocks, q_x, a);
}

float linear_floating(Format format, std::span<const std::byte> row, std::span<const float> x) {
    std::vector<float> w(x.size());
    dequantize_row(format, row, w);
    return dot_lanes(w, x);  // LIN-7
}

}  // namespace etalon::exact

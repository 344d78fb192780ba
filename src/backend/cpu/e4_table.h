// SPDX-License-Identifier: Apache-2.0
// The rows of the table of E4 as kernels look 32 weights up: by one index byte of the file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "exact/formats.h"

namespace etalon::backend::cpu {

/// rows[i]: the table row of the low nibble of i, which is that of columns 0..15 of a run of 32,
/// then that of the high nibble, for columns 16..31. 8 KiB: a fraction of a first cache.
struct E4Pairs {
    alignas(64) std::int8_t rows[256][32];
};

/// `offset` is added to every weight; 128 gives unsigned bytes in [1, 254].
constexpr E4Pairs make_e4_pairs(int offset) noexcept {
    E4Pairs pairs{};
    for (std::size_t i = 0; i < 256; ++i) {
        for (std::size_t c = 0; c < 32; ++c) {
            const std::size_t row = c < 16 ? i % 16 : i / 16;
            pairs.rows[i][c] = static_cast<std::int8_t>(exact::kE4Table[row][c % 16] + offset);
        }
    }
    return pairs;
}

}  // namespace etalon::backend::cpu

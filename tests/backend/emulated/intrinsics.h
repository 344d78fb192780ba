// SPDX-License-Identifier: Apache-2.0
// Functions that the compiler of a card knows, as far as the emulated kernels call them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "backend/emulated/block.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

namespace etalon::backend::cuda {
using std::max;
using std::min;
}  // namespace etalon::backend::cuda

inline void __syncthreads() {
    etalon::emulated::barriers[0].meet(static_cast<int>(blockDim.x), true);
}

template <typename Value>
Value __ldcg(const Value* address) {
    return *address;
}

/// Byte i of a word, signed.
inline int signed_byte_of(unsigned word, int i) {
    return static_cast<std::int8_t>(word >> (8 * i));
}
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i)
        c += signed_byte_of(static_cast<unsigned>(a), i) *
             signed_byte_of(static_cast<unsigned>(b), i);
    return c;
}
/// The two halves of a with the two low bytes of b.
inline int __dp2a_lo(int a, int b, int c) {
    return c + static_cast<std::int16_t>(a) * signed_byte_of(static_cast<unsigned>(b), 0) +
           static_cast<std::int16_t>(a >> 16) * signed_byte_of(static_cast<unsigned>(b), 1);
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const std::uint64_t both = std::uint64_t{high} << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i)
        result |= static_cast<unsigned>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
    return result;
}

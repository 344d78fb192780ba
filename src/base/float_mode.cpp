// SPDX-License-Identifier: Apache-2.0
// Checks the float mode of the calling thread by computing with it (spec FLT-1).
#include "base/float_mode.h"

#include <bit>
#include <cstdint>

#include "base/error.h"

namespace etalon {

void assert_float_mode() noexcept {
    // Volatile, so that the sums are computed here and now and not by the compiler.
    volatile float smallest = std::bit_cast<float>(std::uint32_t{1});
    volatile float normal_min = std::bit_cast<float>(std::uint32_t{0x00800000});
    volatile float one = 1.0F;
    volatile float half_ulp = 0x1p-24F;
    const float kept = smallest * 2.0F;        // an input flushed to zero gives 0
    const float made = normal_min * 0.5F;      // a result flushed to zero gives 0
    const float tie_to_even = one + half_ulp;  // rounding up gives 1 + 2^-23
    const float tie_to_odd = -one - half_ulp;  // rounding down gives -1 - 2^-23
    ETALON_ASSERT(std::bit_cast<std::uint32_t>(kept) == 2);
    ETALON_ASSERT(std::bit_cast<std::uint32_t>(made) == 0x00400000);
    ETALON_ASSERT(tie_to_even == 1.0F);
    ETALON_ASSERT(tie_to_odd == -1.0F);
}

}  // namespace etalon

// SPDX-License-Identifier: Apache-2.0
// Elementary functions as programs over binary32 operations (spec MTH-1 to MTH-4).
#include "exact/math.h"

namespace etalon::exact {

float exp2(float x) noexcept {  // MTH-1
    const float n = rne(x);
    const float f = x - n;  // exact: |f| <= 1/2
    float p = 0x1.5bba14p-10F;
    p = fma(p, f, 0x1.3cea88p-7F);
    p = fma(p, f, 0x1.c6b752p-5F);
    p = fma(p, f, 0x1.ebf9bcp-3F);
    p = fma(p, f, 0x1.62e42ap-1F);
    p = fma(p, f, 1.0F);
    return p * power_of_two(static_cast<int>(n));
}

float exp2_poly3(float f) noexcept {  // MTH-2
    float p = 0x1.c3f76p-5F;
    p = fma(p, f, 0x1.f0de1ap-3F);
    p = fma(p, f, 0x1.62f31ap-1F);
    return fma(p, f, 0x1.fff692p-1F);
}

float log2(float x) noexcept {                           // MTH-3
    constexpr std::uint32_t kSqrtHalfBits = 0x3F3504F3;  // sqrt(1/2), rounded down
    const auto bits = std::bit_cast<std::uint32_t>(x);
    const std::int32_t e = static_cast<std::int32_t>(bits - kSqrtHalfBits) >> 23;
    const auto m = std::bit_cast<float>(bits - (static_cast<std::uint32_t>(e) << 23));
    const float t = (m - 1.0F) / (m + 1.0F);  // m in [sqrt(1/2), sqrt(2)), |t| < 0.172
    const float z = t * t;
    float p = 0x1.484b14p-2F;
    p = fma(p, z, 0x1.a61762p-2F);
    p = fma(p, z, 0x1.2776c6p-1F);
    p = fma(p, z, 0x1.ec709ep-1F);
    p = fma(p, z, 0x1.715476p+1F);
    return fma(p, t, static_cast<float>(e));
}

SinCos sincos_turn(std::uint64_t turn) noexcept {  // MTH-4
    constexpr std::uint64_t kEighth = std::uint64_t{1} << 61;
    const std::uint64_t quadrant = (turn + kEighth) >> 62;
    const auto rest = static_cast<std::int64_t>(turn - (quadrant << 62));  // [-2^61, 2^61)
    // The product of a power of two is exact, so this is one rounding of the integer and one of
    // pi/2.
    const float x = (static_cast<float>(rest) * 0x1p-62F) * 0x1.921fb6p+0F;
    const float z = x * x;
    float s = 0x1.6cd1f2p-19F;
    s = fma(s, z, -0x1.a00f8p-13F);
    s = fma(s, z, 0x1.111108p-7F);
    s = fma(s, z, -0x1.555556p-3F);
    s = fma(s * z, x, x);
    float c = 0x1.9916ap-16F;
    c = fma(c, z, -0x1.6c07f2p-10F);
    c = fma(c, z, 0x1.55553cp-5F);
    c = fma(c, z, -0.5F);
    c = fma(c, z, 1.0F);
    switch (quadrant & 3) {
        case 0:
            return {s, c};
        case 1:
            return {c, -s};
        case 2:
            return {-s, -c};
        default:
            return {-c, s};
    }
}

}  // namespace etalon::exact

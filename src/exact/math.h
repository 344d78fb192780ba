// SPDX-License-Identifier: Apache-2.0
// Elementary functions as programs over binary32 + - * / fma (spec FLT-4, MTH-1 to MTH-5). No libm:
// libraries differ in the last bit.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace etalon::exact {

/// One rounding of a * b + c (FLT-2). Correctly rounded on every machine, fast where it has FMA.
inline float fma(float a, float b, float c) noexcept {
    return std::fma(a, b, c);
}

/// Nearest integer, ties to even, as a float (FLT-4). |x| <= 2^22.
inline float rne(float x) noexcept {
    constexpr float kMagic = 0x1.8p23F;
    return (x + kMagic) - kMagic;
}

/// 2^n as a float, n in [-149, 127]. Exact (subnormals below -126).
inline float power_of_two(int n) noexcept {
    return n >= -126 ? std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23)
                     : std::bit_cast<float>(std::uint32_t{1} << (n + 149));
}

/// 2^x for x in [-126, 126]; relative error below 2e-7 (MTH-1).
float exp2(float x) noexcept;

/// The polynomial of attention: about 2^f for f in [-1/2, 1/2], relative error 7.5e-5 (MTH-2).
float exp2_poly3(float f) noexcept;

/// log2(x) for finite x >= 2^-126; absolute error below 2e-7 + 6e-8 |log2 x| (MTH-3).
float log2(float x) noexcept;

struct SinCos {
    float sin;
    float cos;
};
/// Sine and cosine of an angle in units of 2^-64 of a turn; absolute error below 1.5e-7 (MTH-4).
SinCos sincos_turn(std::uint64_t turn) noexcept;

inline constexpr float kLog2E = 0x1.715476p+0F;  ///< log2(e) rounded to binary32
inline constexpr float kLn2 = 0x1.62e43p-1F;     ///< ln(2) rounded to binary32

}  // namespace etalon::exact

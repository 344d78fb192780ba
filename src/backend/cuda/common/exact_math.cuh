// SPDX-License-Identifier: Apache-2.0
// The float operations of the specification on the card (spec FLT-1, FLT-2, MTH, SWI-1). Each has
// its own intrinsic, so that no compiler flag can contract or reorder them; the sources are
// compiled with -fmad=false and without flush to zero as well (cmake/cuda.cmake).
#pragma once

#include <cstdint>

#include "backend/cuda/ptx/arithmetic.cuh"
#include "exact/math.h"
#include "exact/quantize.h"

namespace etalon::backend::cuda {

using exact::kAmaxMin;
using exact::kInfinityBits;

inline constexpr std::uint32_t kMagnitudeMask = 0x7FFFFFFFU;

__device__ inline float mul(float a, float b) {
    return __fmul_rn(a, b);
}
__device__ inline float add(float a, float b) {
    return __fadd_rn(a, b);
}
__device__ inline float sub(float a, float b) {
    return __fsub_rn(a, b);
}
__device__ inline float divide(float a, float b) {
    return __fdiv_rn(a, b);
}
__device__ inline float fused(float a, float b, float c) {
    return __fmaf_rn(a, b, c);
}

/// Nearest integer, ties to even; abs(x) <= 2^22 (FLT-4).
__device__ inline float rne(float x) {
    constexpr float kMagic = 0x1.8p23F;
    return sub(add(x, kMagic), kMagic);
}

/// 2^n, n in [-149, 127].
__device__ inline float power_of_two(int n) {
    return n >= -126 ? __uint_as_float(static_cast<std::uint32_t>(n + 127) << 23)
                     : __uint_as_float(1U << (n + 149));
}

/// 2^x, x in [-126, 126] (MTH-1).
__device__ inline float exp2_full(float x) {
    constexpr float kMagic = 0x1.8p23F;  // as in rne(): n stands in the lowest bits of the sum
    constexpr std::uint32_t kOne = 0x3F800000U;  // 1.0F
    const float shifted = add(x, kMagic);
    const float n = sub(shifted, kMagic);
    const float f = sub(x, n);
    float p = 0x1.5bba14p-10F;
    p = fused(p, f, 0x1.3cea88p-7F);
    p = fused(p, f, 0x1.c6b752p-5F);
    p = fused(p, f, 0x1.ebf9bcp-3F);
    p = fused(p, f, 0x1.62e42ap-1F);
    p = fused(p, f, 1.0F);
    return mul(p, __uint_as_float((__float_as_uint(shifted) << 23) + kOne));  // 2^n is normal
}

/// About 2^f, f in [-1/2, 1/2] (MTH-2).
__device__ inline float exp2_poly3(float f) {
    float p = 0x1.c3f76p-5F;
    p = fused(p, f, 0x1.f0de1ap-3F);
    p = fused(p, f, 0x1.62f31ap-1F);
    return fused(p, f, 0x1.fff692p-1F);
}

struct SinCos {
    float sin;
    float cos;
};

/// Of an angle in units of 2^-64 of a turn (MTH-4).
__device__ inline SinCos sincos_turn(std::uint64_t turn) {
    const std::uint64_t quadrant = (turn + (std::uint64_t{1} << 61)) >> 62;
    const auto rest = static_cast<std::int64_t>(turn - (quadrant << 62));
    const float x = mul(mul(__ll2float_rn(rest), 0x1p-62F), 0x1.921fb6p+0F);
    const float z = mul(x, x);
    float s = 0x1.6cd1f2p-19F;
    s = fused(s, z, -0x1.a00f8p-13F);
    s = fused(s, z, 0x1.111108p-7F);
    s = fused(s, z, -0x1.555556p-3F);
    s = fused(mul(s, z), x, x);
    float c = 0x1.9916ap-16F;
    c = fused(c, z, -0x1.6c07f2p-10F);
    c = fused(c, z, 0x1.55553cp-5F);
    c = fused(c, z, -0.5F);
    c = fused(c, z, 1.0F);
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

/// divide(g, b) for the b that swiglu() has for g: the same steps, but without the check for
/// extreme exponents and its branch, so that several quotients are made at once. Such g come out
/// right too: b is in [1, 2^126], and 2 where g is tiny. The reciprocal of 2^126 has to be exact,
/// as that of a power of two is; one place lower it would be zero.
__device__ inline float divide_gate(float g, float b) {
    float r = reciprocal_near(b);
    r = fused(r, fused(-b, r, 1.0F), r);
    const float q = mul(g, r);
    const float excess = fused(b, q, -g);                   // 0 where q is exact, so that -0 stays
    return fabsf(g) < INFINITY ? fused(-r, excess, q) : g;  // inf - inf is no excess
}

/// SWI-1. A NaN in g becomes a bound and g / ... is NaN by itself.
__device__ inline float swiglu(float g, float u) {
    float x = mul(-g, exact::kLog2E);
    x = fminf(fmaxf(x, -126.0F), 126.0F);
    return mul(divide_gate(g, add(1.0F, exp2_full(x))), u);
}

/// Bits of abs(x): an integer that orders magnitudes and puts NaN last (QNT-1).
__device__ inline std::uint32_t magnitude_bits(float x) {
    return __float_as_uint(x) & kMagnitudeMask;
}

/// The larger magnitude, or a NaN where one of both is NaN: magnitude_bits() of it is that of the
/// larger one, or of some NaN.
__device__ inline float larger_magnitude(float a, float b) {
    return larger_or_nan(fabsf(a), fabsf(b));
}

/// How a vector with this largest magnitude is quantised (QNT-2, QNT-4, ERR-1).
struct Quantizer {
    float inverse;  ///< 0: every code is 0
    float scale;
    bool finite;

    __device__ explicit Quantizer(std::uint32_t amax_bits) {
        const float amax = __uint_as_float(amax_bits);
        finite = amax_bits < kInfinityBits;
        const bool counts = finite && amax >= kAmaxMin;
        inverse = counts ? divide(127.0F, amax) : 0.0F;
        scale = counts ? divide(amax, 127.0F) : 0.0F;
    }
    /// In [-127, 127]; 0 where the vector counts as zero, whatever x is.
    __device__ int code(float x) const {
        return inverse == 0.0F ? 0 : static_cast<int>(rne(mul(x, inverse)));
    }
};

/// A code of Quantizer::code in the lowest byte of a word, where inverse is not 0: abs(x * inverse)
/// <= 127.5, so that the sum has the nearest integer in its lowest bits.
__device__ inline std::uint32_t code_bits(float x, float inverse) {
    constexpr float kMagic = 0x1.8p23F;  // as in rne()
    return __float_as_uint(add(mul(x, inverse), kMagic));
}
/// The lowest bytes of two words as the lowest ones of another, and of four as a word.
__device__ inline std::uint32_t low_bytes(std::uint32_t a, std::uint32_t b) {
    return __byte_perm(a, b, 0x0040);
}
__device__ inline std::uint32_t low_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t c,
                                          std::uint32_t d) {
    return __byte_perm(low_bytes(a, b), low_bytes(c, d), 0x5410);
}

}  // namespace etalon::backend::cuda

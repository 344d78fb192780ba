// SPDX-License-Identifier: Apache-2.0
// Vector primitives in plain C++: one lane. Included inside the namespace of an instruction set;
// avx2/vector.inl and avx512/vector.inl have the same names.

using Floats = float;
using Ints = std::int32_t;
inline constexpr std::size_t kWidth = 1;

inline Floats load(const float* p) {
    return *p;
}
inline Floats load_partial(const float* p, std::size_t /*n*/) {
    return *p;
}
inline void store(float* p, Floats v) {
    *p = v;
}
inline void store_partial(float* p, Floats v, std::size_t /*n*/) {
    *p = v;
}
inline Floats broadcast(float v) {
    return v;
}

inline Floats add(Floats a, Floats b) {
    return a + b;
}
inline Floats sub(Floats a, Floats b) {
    return a - b;
}
inline Floats mul(Floats a, Floats b) {
    return a * b;
}
inline Floats div(Floats a, Floats b) {
    return a / b;
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return std::fma(a, b, c);
}
inline Floats negate(Floats a) {
    return -a;
}
// The order of operands matters for NaN: the second comes back, as from the x86 instructions.
inline Floats larger(Floats a, Floats b) {
    return a > b ? a : b;
}
inline Floats smaller(Floats a, Floats b) {
    return a < b ? a : b;
}
inline float largest_lane(Floats v) {
    return v;
}
/// v where low <= first + lane <= high, else `other`.
inline Floats select_range(Floats v, Floats other, int first, int low, int high) {
    return first >= low && first <= high ? v : other;
}
// Both lanes of a pair become its even or its odd one. NOTE: one lane has no partner; RoPE of one
// lane walks the pairs itself.
inline Floats duplicate_even(Floats v) {
    return v;
}
inline Floats duplicate_odd(Floats v) {
    return v;
}

inline Ints load(const std::int32_t* p) {
    return *p;
}
inline void store(std::int32_t* p, Ints v) {
    *p = v;
}
inline Ints zero_ints() {
    return 0;
}
inline Ints add(Ints a, Ints b) {
    return a + b;
}
inline Ints larger(Ints a, Ints b) {
    return a > b ? a : b;
}
inline Ints magnitude_bits(Floats v) {
    return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(v) & 0x7FFFFFFFU);
}
inline std::int32_t largest_lane(Ints v) {
    return v;
}
inline std::int32_t sum_lanes(Ints v) {
    return v;
}
/// Nearest integer, ties to even; abs(v) <= 2^22 (FLT-4).
inline Ints nearest(Floats v) {
    return static_cast<std::int32_t>(exact::rne(v));
}
/// Nearest integers, ties to even, of v in [0, 2^31]. From 2^23 on a binary32 is an integer, and
/// between 2^22 and there it lies half way at most.
inline void store_unsigned(std::uint32_t* p, Floats v) {
    const bool is_whole = v >= 0x1p23F;
    *p = static_cast<std::uint32_t>(is_whole ? v : (v + 0x1p23F) - 0x1p23F);
}
inline Floats to_floats(Ints v) {
    return static_cast<float>(v);
}
/// 2^n, n in [-126, 127].
inline Floats power_of_two(Ints n) {
    return std::bit_cast<float>(static_cast<std::uint32_t>(n + 127) << 23);
}
/// Lanes as bytes; every lane lies in [-128, 127].
inline void store_i8(std::int8_t* p, Ints v) {
    *p = static_cast<std::int8_t>(v);
}
inline void store_i8_partial(std::int8_t* p, Ints v, std::size_t /*n*/) {
    store_i8(p, v);
}
inline Ints load_i8(const std::int8_t* p) {
    return *p;
}
/// v = 64 * high + low with 0 <= v <= 2048 as two bytes a lane.
inline void store_planes(std::uint8_t* high, std::uint8_t* low, Ints v) {
    *high = static_cast<std::uint8_t>(v >> 6);
    *low = static_cast<std::uint8_t>(v & 63);
}

/// Butterfly strides below the width, inside one vector: none with one lane (ROT-3).
inline Floats butterfly_lanes(Floats v, std::size_t /*block*/) {
    return v;
}

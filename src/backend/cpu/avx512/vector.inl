// SPDX-License-Identifier: Apache-2.0
// Vector primitives of AVX-512 (F, BW, DQ, VL): 16 lanes. Names as in generic/vector.inl.

using Floats = __m512;
using Ints = __m512i;
inline constexpr std::size_t kWidth = 16;

/// The first n lanes, n in [0, 16].
inline __mmask16 first_lanes(std::size_t n) {
    return static_cast<__mmask16>((std::uint32_t{1} << n) - 1);
}

inline Floats load(const float* p) {
    return _mm512_loadu_ps(p);
}
inline Floats load_partial(const float* p, std::size_t n) {
    return _mm512_maskz_loadu_ps(first_lanes(n), p);
}
inline void store(float* p, Floats v) {
    _mm512_storeu_ps(p, v);
}
inline void store_partial(float* p, Floats v, std::size_t n) {
    _mm512_mask_storeu_ps(p, first_lanes(n), v);
}
inline Floats broadcast(float v) {
    return _mm512_set1_ps(v);
}

inline Floats add(Floats a, Floats b) {
    return _mm512_add_ps(a, b);
}
inline Floats sub(Floats a, Floats b) {
    return _mm512_sub_ps(a, b);
}
inline Floats mul(Floats a, Floats b) {
    return _mm512_mul_ps(a, b);
}
inline Floats div(Floats a, Floats b) {
    return _mm512_div_ps(a, b);
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return _mm512_fmadd_ps(a, b, c);
}
inline Floats negate(Floats a) {
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0F));
}
// vmaxps and vminps give the second operand when one is NaN.
inline Floats larger(Floats a, Floats b) {
    return _mm512_max_ps(a, b);
}
inline Floats smaller(Floats a, Floats b) {
    return _mm512_min_ps(a, b);
}
inline float largest_lane(Floats v) {
    return _mm512_reduce_max_ps(v);
}
inline Floats select_range(Floats v, Floats other, int first, int low, int high) {
    const Ints lane =
        _mm512_add_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                         _mm512_set1_epi32(first));
    const __mmask16 from = _mm512_cmpge_epi32_mask(lane, _mm512_set1_epi32(low));
    const __mmask16 inside = _mm512_mask_cmple_epi32_mask(from, lane, _mm512_set1_epi32(high));
    return _mm512_mask_blend_ps(inside, other, v);
}
inline Floats duplicate_even(Floats v) {
    return _mm512_moveldup_ps(v);
}
inline Floats duplicate_odd(Floats v) {
    return _mm512_movehdup_ps(v);
}

inline Ints load(const std::int32_t* p) {
    return _mm512_loadu_si512(p);
}
inline void store(std::int32_t* p, Ints v) {
    _mm512_storeu_si512(p, v);
}
inline Ints zero_ints() {
    return _mm512_setzero_si512();
}
inline Ints add(Ints a, Ints b) {
    return _mm512_add_epi32(a, b);
}
inline Ints larger(Ints a, Ints b) {
    return _mm512_max_epi32(a, b);
}
inline Ints magnitude_bits(Floats v) {
    return _mm512_and_si512(_mm512_castps_si512(v), _mm512_set1_epi32(0x7FFFFFFF));
}
inline std::int32_t largest_lane(Ints v) {
    return _mm512_reduce_max_epi32(v);
}
inline std::int32_t sum_lanes(Ints v) {
    return _mm512_reduce_add_epi32(v);
}
/// vcvtps2dq rounds to nearest even in the mode that threads assert at their start (FLT-1, FLT-4).
inline Ints nearest(Floats v) {
    return _mm512_cvtps_epi32(v);
}
/// vcvtps2udq rounds as vcvtps2dq does.
inline void store_unsigned(std::uint32_t* p, Floats v) {
    _mm512_storeu_si512(p, _mm512_cvtps_epu32(v));
}
inline Floats to_floats(Ints v) {
    return _mm512_cvtepi32_ps(v);
}
inline Floats power_of_two(Ints n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(n, _mm512_set1_epi32(127)), 23));
}
/// vpmovdb keeps the low byte of each lane.
inline void store_i8(std::int8_t* p, Ints v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
}
inline void store_i8_partial(std::int8_t* p, Ints v, std::size_t n) {
    _mm512_mask_cvtepi32_storeu_epi8(p, first_lanes(n), v);
}
inline Ints load_i8(const std::int8_t* p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline void store_planes(std::uint8_t* high, std::uint8_t* low, Ints v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(high),
                     _mm512_cvtepi32_epi8(_mm512_srli_epi32(v, 6)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low),
                     _mm512_cvtepi32_epi8(_mm512_and_si512(v, _mm512_set1_epi32(63))));
}

/// A stride inside the vector: a + b in the lower lane of a pair, a - b in the upper (ROT-3).
inline Floats butterfly_pairs(Floats v, Floats partner, __mmask16 upper) {
    return _mm512_mask_sub_ps(_mm512_add_ps(v, partner), upper, partner, v);
}
inline Floats butterfly_lanes(Floats v, std::size_t block) {
    if (block >= 2) v = butterfly_pairs(v, _mm512_permute_ps(v, 0xB1), 0xAAAA);
    if (block >= 4) v = butterfly_pairs(v, _mm512_permute_ps(v, 0x4E), 0xCCCC);
    if (block >= 8) v = butterfly_pairs(v, _mm512_shuffle_f32x4(v, v, 0xB1), 0xF0F0);
    if (block >= 16) v = butterfly_pairs(v, _mm512_shuffle_f32x4(v, v, 0x4E), 0xFF00);
    return v;
}

// SPDX-License-Identifier: Apache-2.0
// Vector primitives of AVX2 and FMA: 8 lanes. Names as in generic/vector.inl.

using Floats = __m256;
using Ints = __m256i;
inline constexpr std::size_t kWidth = 8;

alignas(64) inline constexpr std::int32_t kFirstLanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};

/// All ones in the first n lanes, n in [0, 8].
inline Ints first_lanes(std::size_t n) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(kFirstLanes + kWidth - n));
}

inline Floats load(const float* p) {
    return _mm256_loadu_ps(p);
}
inline Floats load_partial(const float* p, std::size_t n) {
    return _mm256_maskload_ps(p, first_lanes(n));
}
inline void store(float* p, Floats v) {
    _mm256_storeu_ps(p, v);
}
inline void store_partial(float* p, Floats v, std::size_t n) {
    _mm256_maskstore_ps(p, first_lanes(n), v);
}
inline Floats broadcast(float v) {
    return _mm256_set1_ps(v);
}

inline Floats add(Floats a, Floats b) {
    return _mm256_add_ps(a, b);
}
inline Floats sub(Floats a, Floats b) {
    return _mm256_sub_ps(a, b);
}
inline Floats mul(Floats a, Floats b) {
    return _mm256_mul_ps(a, b);
}
inline Floats div(Floats a, Floats b) {
    return _mm256_div_ps(a, b);
}
inline Floats fused(Floats a, Floats b, Floats c) {
    return _mm256_fmadd_ps(a, b, c);
}
inline Floats negate(Floats a) {
    return _mm256_xor_ps(a, _mm256_set1_ps(-0.0F));
}
// vmaxps and vminps give the second operand when one is NaN.
inline Floats larger(Floats a, Floats b) {
    return _mm256_max_ps(a, b);
}
inline Floats smaller(Floats a, Floats b) {
    return _mm256_min_ps(a, b);
}
inline float largest_lane(Floats v) {
    __m128 m = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}
inline Floats select_range(Floats v, Floats other, int first, int low, int high) {
    const Ints lane =
        _mm256_add_epi32(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), _mm256_set1_epi32(first));
    const Ints outside = _mm256_or_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(low), lane),
                                         _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(high)));
    return _mm256_blendv_ps(v, other, _mm256_castsi256_ps(outside));
}
inline Floats duplicate_even(Floats v) {
    return _mm256_moveldup_ps(v);
}
inline Floats duplicate_odd(Floats v) {
    return _mm256_movehdup_ps(v);
}

inline Ints load(const std::int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline void store(std::int32_t* p, Ints v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
}
inline Ints zero_ints() {
    return _mm256_setzero_si256();
}
inline Ints add(Ints a, Ints b) {
    return _mm256_add_epi32(a, b);
}
inline Ints larger(Ints a, Ints b) {
    return _mm256_max_epi32(a, b);
}
inline Ints magnitude_bits(Floats v) {
    return _mm256_and_si256(_mm256_castps_si256(v), _mm256_set1_epi32(0x7FFFFFFF));
}
inline std::int32_t largest_lane(Ints v) {
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
inline std::int32_t sum_lanes(Ints v) {
    __m128i m = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    m = _mm_add_epi32(m, _mm_shuffle_epi32(m, 0x4E));
    return _mm_cvtsi128_si32(_mm_add_epi32(m, _mm_shuffle_epi32(m, 0xB1)));
}
/// vcvtps2dq rounds to nearest even in the mode that threads assert at their start (FLT-1, FLT-4).
inline Ints nearest(Floats v) {
    return _mm256_cvtps_epi32(v);
}
/// As nearest(); 2^31 fits in no int32 and comes out as the indefinite integer, whose bits are
/// 2^31.
inline void store_unsigned(std::uint32_t* p, Floats v) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_cvtps_epi32(v));
}
inline Floats to_floats(Ints v) {
    return _mm256_cvtepi32_ps(v);
}
inline Floats power_of_two(Ints n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}
/// 8 bytes; vpackssdw and vpacksswb saturate, which no lane in [-128, 127] reaches.
inline __m128i narrow(Ints v) {
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    return _mm_packs_epi16(words, words);
}
inline void store_i8(std::int8_t* p, Ints v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), narrow(v));
}
inline void store_i8_partial(std::int8_t* p, Ints v, std::size_t n) {
    std::int8_t bytes[kWidth];
    store_i8(bytes, v);
    std::memcpy(p, bytes, n);
}
inline Ints load_i8(const std::int8_t* p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
inline void store_planes(std::uint8_t* high, std::uint8_t* low, Ints v) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(high), narrow(_mm256_srli_epi32(v, 6)));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(low),
                     narrow(_mm256_and_si256(v, _mm256_set1_epi32(63))));
}

/// A stride inside the vector: the partner is added to the lower lane, and in the upper lane, whose
/// sign is turned, b becomes a + (-b) = a - b (ROT-3).
inline Floats butterfly_lanes(Floats v, std::size_t block) {
    if (block >= 2) {
        const Floats signs = _mm256_setr_ps(0, -0.0F, 0, -0.0F, 0, -0.0F, 0, -0.0F);
        v = _mm256_add_ps(_mm256_permute_ps(v, 0xB1), _mm256_xor_ps(v, signs));
    }
    if (block >= 4) {
        const Floats signs = _mm256_setr_ps(0, 0, -0.0F, -0.0F, 0, 0, -0.0F, -0.0F);
        v = _mm256_add_ps(_mm256_permute_ps(v, 0x4E), _mm256_xor_ps(v, signs));
    }
    if (block >= 8) {
        const Floats signs = _mm256_setr_ps(0, 0, 0, 0, -0.0F, -0.0F, -0.0F, -0.0F);
        v = _mm256_add_ps(_mm256_permute2f128_ps(v, v, 1), _mm256_xor_ps(v, signs));
    }
    return v;
}

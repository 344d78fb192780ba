// SPDX-License-Identifier: Apache-2.0
// Primitives of E4 with vpshufb and vpmaddubsw. Names as in generic/e4_dot.inl.

// vpmaddubsw wants an unsigned operand: weights become their magnitudes, and x takes their signs.
// Both are at most 127 (FMT-17, QNT-2), so a pair of products fits int16: 2 * 127 * 127 = 32,258.

// 4 rows x 2 tokens are 8 sums of 16 registers.
inline constexpr int kE4Groups[] = {2, 1};
inline constexpr int kE4TokensMax = 4;
inline constexpr int kE4VectorRows = 1;

using E4Input = __m256i;
struct E4Weights {
    __m256i w;
    __m256i magnitudes;
};

inline E4Input load_e4_input(const std::int8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}
inline E4Weights load_e4(const std::byte* codes, const std::byte* index) {
    const __m256i w = _mm256_shuffle_epi8(load_e4_pair(index), load_e4_codes(codes));
    return {w, _mm256_abs_epi8(w)};
}
inline Ints e4_dot(Ints sum, const E4Weights& weights, E4Input x) {
    const __m256i pairs = _mm256_maddubs_epi16(weights.magnitudes, _mm256_sign_epi8(x, weights.w));
    return in_order(add(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))));
}
inline void store_e4_sums(Ints sum, std::int32_t* to) {
    *to = sum_lanes(sum);
}

// SPDX-License-Identifier: Apache-2.0
// Primitives of E4 with vpshufb and vpdpbusd. Names as in generic/e4_dot.inl.

// The table holds w + 128, the unsigned operand; e8_start() is what a sum then lacks.

// 4 rows x 8 tokens are 16 sums of 32 registers.
inline constexpr int kE4Groups[] = {8, 4, 2, 1};
inline constexpr int kE4TokensMax = 16;
inline constexpr int kE4VectorRows = 2;

using E4Input = __m512i;    // 32 elements of one token, twice
using E4Weights = __m512i;  // 32 elements of two rows, + 128

inline E4Input load_e4_input(const std::int8_t* p) {
    return _mm512_broadcast_i64x4(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline E4Weights load_e4(const std::byte* codes, const std::byte* indices) {
    const __m512i rows =
        _mm512_castsi256_si512(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes)));
    const __m512i both = _mm512_shuffle_i64x2(rows, rows, 0x50);  // each row twice
    const __m512i code = _mm512_and_si512(
        _mm512_srlv_epi64(both, _mm512_setr_epi64(0, 0, 4, 4, 0, 0, 4, 4)), _mm512_set1_epi8(15));
    const __m512i table = _mm512_inserti64x4(_mm512_castsi256_si512(load_e4_pair(indices)),
                                             load_e4_pair(indices + 1), 1);
    return _mm512_shuffle_epi8(table, code);
}
inline Ints e4_dot(Ints sum, E4Weights weights, E4Input x) {
    return e8_dot(sum, {weights}, x);
}
inline void store_e4_sums(Ints sum, std::int32_t* to) {
    sum = add(sum, _mm512_shuffle_epi32(sum, _MM_PERM_BADC));
    sum = add(sum, _mm512_shuffle_epi32(sum, _MM_PERM_CDAB));
    sum = add(sum, _mm512_shuffle_i64x2(sum, sum, 0xB1));  // the halves of each half
    to[0] = _mm_cvtsi128_si32(_mm512_castsi512_si128(sum));
    to[1] = _mm_cvtsi128_si32(_mm512_extracti32x4_epi32(sum, 2));
}

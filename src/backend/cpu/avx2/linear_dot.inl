// SPDX-License-Identifier: Apache-2.0
// Primitives of linear layers with vpmaddubsw. Names as in generic/linear_dot.inl.

// Blocked formats use vpmaddubsw, which multiplies unsigned with signed bytes and adds two products
// to int16 with saturation. Signed weights become abs(w), at most 128, and x takes their sign:
// 2 * 128 * 127 = 32,512 is below 2^15, but two such results cannot be added before vpmaddwd widens
// them.
inline constexpr int kEightOffset = 0;

// 1 tile of 2 vectors x 4 tokens: 8 sums of 16 registers.
inline constexpr int kE8Tiles = 1;
inline constexpr int kE8Groups[] = {4, 2, 1};
// 4 sums and the 8 lines of a block.
inline constexpr int kBlockedGroups[] = {4, 2, 1};

using Quad = __m256i;  // four elements of one token, in every lane
using Line = __m256i;  // four elements of 8 rows

inline Quad load_quad(const std::int8_t* p) {
    std::int32_t quad = 0;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
}

// E8 is widened to int16 and multiplied by vpmaddwd, which cannot overflow: two instructions on the
// multiplier for 32 products, where signs, vpmaddubsw and vpmaddwd are three. In a line even and
// odd elements part without a shuffle; a panel holds x as int16 in the order 0 2 1 3.
inline constexpr int kE8QuadBytes = 8;
struct E8Quad {
    __m256i even;  // elements 0 and 2 of one token, in every lane
    __m256i odd;   // 1 and 3
};
struct E8Line {
    __m256i even;
    __m256i odd;
};
inline E8Quad load_e8_quad(const std::int8_t* p) {
    return {load_quad(p), load_quad(p + 4)};
}
inline E8Line load_e8(const std::byte* p) {
    const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8), _mm256_srai_epi16(w, 8)};
}
inline Ints e8_start(std::int32_t /*sum_x*/) {
    return _mm256_setzero_si256();
}
/// NOTE: an empty asm keeps additions in their order. GCC 12 regroups them otherwise, holds all
/// products at once and spills most of them.
inline Ints in_order(Ints v) {
    asm("" : "+x"(v));
    return v;
}
inline Ints e8_dot(Ints sum, const E8Line& line, const E8Quad& x) {
    sum = in_order(add(sum, _mm256_madd_epi16(line.even, x.even)));
    return in_order(add(sum, _mm256_madd_epi16(line.odd, x.odd)));
}

template <Code kCode>
inline Line load_line(const std::byte* codes, int quad) {
    const auto* from = reinterpret_cast<const __m256i*>(codes);
    if constexpr (kCode == Code::nibble || kCode == Code::table) {
        const __m256i both = _mm256_loadu_si256(from + quad / 2);
        const __m256i code = _mm256_and_si256(quad % 2 == 0 ? both : _mm256_srli_epi16(both, 4),
                                              _mm256_set1_epi8(15));
        if constexpr (kCode == Code::nibble) return code;
        const __m256i table = _mm256_broadcastsi128_si256(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(exact::kIq4Table.data())));
        return _mm256_shuffle_epi8(table, code);
    }
    return _mm256_loadu_si256(from + quad);
}

/// How many results of vpmaddubsw fit int16 together: n * 2 * code * 127 < 2^15 (QNT-2).
constexpr int quads_together(Code code) {
    if (code == Code::nibble) return 8;  // 8 * 2 * 15 * 127 = 30,480
    if (code == Code::five) return 4;    // 4 * 2 * 31 * 127 = 31,496
    if (code == Code::six) return 2;     // 2 * 2 * 63 * 127 = 32,004
    return 1;                            // signed: 2 * 128 * 127 = 32,512
}
/// int16 pairs of products.
template <Code kCode>
inline Ints multiply_add(Ints pairs, Line line, Quad x) {
    if constexpr (quads_together(kCode) == 1) {
        return _mm256_maddubs_epi16(_mm256_abs_epi8(line), _mm256_sign_epi8(x, line));
    }
    return in_order(_mm256_add_epi16(pairs, _mm256_maddubs_epi16(line, x)));
}
/// Four products of each of 8 rows as int32.
template <Code kCode>
inline Ints widen(Ints pairs) {
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/// vcvtph2ps: every binary16 as a binary32, subnormals too (FMT-1).
inline Floats load_f16(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Floats load_sub(const std::byte* p) {
    return to_floats(load_i8(reinterpret_cast<const std::int8_t*>(p)));
}

// SPDX-License-Identifier: Apache-2.0
// Primitives of linear layers with vpdpbusd. Names as in generic/linear_dot.inl.

// vpdpbusd multiplies unsigned with signed bytes and adds four products to int32 without
// saturation. The weights are the unsigned operand, so a quad of x can come from memory inside the
// instruction. 8-bit weights hold w + 128; the sum then starts at, or loses, 128 times the sum of
// x.
inline constexpr int kEightOffset = 128;

// 2 tiles x 12 tokens are 24 of 32 registers; one token wants more tiles, to hide the latency.
inline constexpr int kE8Tiles = 2;
inline constexpr int kE8Groups[] = {12, 8, 4, 2, 1};
// 12 sums and the 8 lines of a block.
inline constexpr int kBlockedGroups[] = {12, 8, 4, 2, 1};

using Quad = __m512i;  // four elements of one token, in every lane
using Line = __m512i;  // four elements of 16 rows

inline Quad load_quad(const std::int8_t* p) {
    std::int32_t quad = 0;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
}

inline constexpr int kE8QuadBytes = 4;
using E8Quad = Quad;
inline E8Quad load_e8_quad(const std::int8_t* p) {
    return load_quad(p);
}
struct E8Line {
    __m512i w;  // w + 128
};
inline E8Line load_e8(const std::byte* p) {
    return {_mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128))};
}
/// The int32 sum may wrap on its way and ends exact, since the whole of LIN-2 fits.
inline Ints e8_start(std::int32_t sum_x) {
    return _mm512_set1_epi32(
        static_cast<std::int32_t>(0U - 128U * static_cast<std::uint32_t>(sum_x)));
}
inline Ints e8_dot(Ints sum, const E8Line& line, E8Quad x) {
    sum = _mm512_dpbusd_epi32(sum, line.w, x);
    // NOTE: an empty asm ties the sum to one register; GCC 12 copies it to and fro otherwise, which
    // halves the speed.
    asm("" : "+v"(sum));
    return sum;
}

template <Code kCode>
inline Line load_line(const std::byte* codes, int quad) {
    if constexpr (kCode == Code::nibble || kCode == Code::table) {
        const __m512i both = _mm512_loadu_si512(codes + 64 * (quad / 2));
        const __m512i code = _mm512_and_si512(quad % 2 == 0 ? both : _mm512_srli_epi16(both, 4),
                                              _mm512_set1_epi8(15));
        if constexpr (kCode == Code::nibble) return code;
        // vpshufb looks 16 bytes up in each 128-bit part; T + 128 lies in [1, 241].
        const __m512i table = _mm512_xor_si512(
            _mm512_broadcast_i32x4(
                _mm_loadu_si128(reinterpret_cast<const __m128i*>(exact::kIq4Table.data()))),
            _mm512_set1_epi8(-128));
        return _mm512_shuffle_epi8(table, code);
    }
    return _mm512_loadu_si512(codes + 64 * quad);
}

/// A whole block: below 4 * 8 * 255 * 127 < 2^20.
constexpr int quads_together(Code /*code*/) {
    return 8;
}
template <Code kCode>
inline Ints multiply_add(Ints products, Line line, Quad x) {
    return _mm512_dpbusd_epi32(products, line, x);
}
template <Code kCode>
inline Ints widen(Ints products) {
    return products;
}

/// vcvtph2ps: every binary16 as a binary32, subnormals too (FMT-1).
inline Floats load_f16(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Floats load_sub(const std::byte* p) {
    return to_floats(load_i8(reinterpret_cast<const std::int8_t*>(p)));
}

// SPDX-License-Identifier: Apache-2.0
// 16 rows of E4 as lines of E8 with AVX2: what avx2 and avx512 share. Included inside the namespace
// of an instruction set, after its linear_dot.inl.

inline constexpr E4Pairs kE4Pairs = make_e4_pairs(kEightOffset);

/// The codes of a row: columns 0..15 in the low half, 16..31 in the high one.
inline __m256i load_e4_codes(const std::byte* codes) {
    const __m256i both =
        _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(codes)));
    return _mm256_and_si256(_mm256_srlv_epi64(both, _mm256_setr_epi64x(0, 0, 4, 4)),
                            _mm256_set1_epi8(15));
}

inline __m256i load_e4_pair(const std::byte* index) {
    return _mm256_load_si256(
        reinterpret_cast<const __m256i*>(kE4Pairs.rows[std::to_integer<std::size_t>(*index)]));
}

/// 8 x 8 words: column i of the rows becomes row i.
inline void transpose_words(__m256i (&m)[8]) {
    __m256i pairs[8];
    for (std::size_t i = 0; i < 8; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(m[i], m[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(m[i], m[i + 1]);
    }
    __m256i quads[8];
    for (std::size_t i = 0; i < 8; i += 4) {
        quads[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        quads[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        quads[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        quads[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (std::size_t i = 0; i < 4; ++i) {
        m[i] = _mm256_permute2x128_si256(quads[i], quads[i + 4], 0x20);
        m[i + 4] = _mm256_permute2x128_si256(quads[i], quads[i + 4], 0x31);
    }
}

inline void expand_e4_line(const std::byte* codes, const std::byte* indices, std::size_t group_rows,
                           std::byte* lines) {
    const __m256i offset = _mm256_set1_epi8(static_cast<char>(kEightOffset));
    for (std::size_t half = 0; half < 2; ++half) {
        __m256i rows[8];
        for (std::size_t i = 0; i < 8; ++i) {
            const std::size_t row = 8 * half + i;
            const std::size_t at = row / kE4LineRows * group_rows + row % kE4LineRows;
            rows[i] =
                _mm256_shuffle_epi8(load_e4_pair(indices + at), load_e4_codes(codes + at * 16));
        }
        transpose_words(rows);
        for (std::size_t quad = 0; quad < 8; ++quad) {
            _mm256_store_si256(reinterpret_cast<__m256i*>(lines + quad * 64 + half * 32),
                               _mm256_xor_si256(rows[quad], offset));
        }
    }
}

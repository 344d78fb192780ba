// SPDX-License-Identifier: Apache-2.0
// Integer products of attention with vpmaddubsw. Names as in generic/attention_dot.inl.

inline constexpr std::uint8_t kKeyFlip = 0x00;

inline Ints load_bytes(const void* p) {
    return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
inline Ints broadcast_quad(const void* p) {
    std::int32_t quad = 0;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm256_set1_epi32(quad);
}

/// vpmaddubsw, 8 slots: abs(k) is the unsigned operand and q takes the sign of k. abs(k), abs(q) <=
/// 127 (QNT-2), so a pair sums to at most 2 * 127 * 127 = 32,258 and cannot saturate; pairs go to
/// int32 before they are added. Rows and slots at once: 2 x 32, in 8 accumulators.
template <int kRows, typename Row>
inline void dot_rows(const Row* rows, const std::uint8_t* keys, int n_quads, std::int32_t* dots) {
    const Ints ones = _mm256_set1_epi16(1);
    for (int half = 0; half < exact::kPageTokens; half += 32) {
        Ints sums[kRows][4];
        for (auto& of_row : sums) {
            for (Ints& sum : of_row)
                sum = zero_ints();
        }
        for (int d = 0; d < n_quads; ++d) {
            const std::uint8_t* line = keys + (d * exact::kPageTokens + half) * 4;
            Ints q[kRows];
            for (int r = 0; r < kRows; ++r)
                q[r] = broadcast_quad(rows[r].q + 4 * d);
            for (int i = 0; i < 4; ++i) {
                const Ints k = load_bytes(line + 32 * i);
                const Ints magnitude = _mm256_abs_epi8(k);
                for (int r = 0; r < kRows; ++r) {
                    const Ints pairs = _mm256_maddubs_epi16(magnitude, _mm256_sign_epi8(q[r], k));
                    sums[r][i] = add(sums[r][i], _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        for (int r = 0; r < kRows; ++r) {
            for (int i = 0; i < 4; ++i) {
                store(dots + r * exact::kPageTokens + half + 8 * i, sums[r][i]);
            }
        }
    }
}

template <typename Row>
inline void page_dots(const Row* rows, int n_rows, const std::uint8_t* keys, int n_quads,
                      std::int32_t* dots) {
    int r = 0;
    for (; r + 2 <= n_rows; r += 2) {
        dot_rows<2>(rows + r, keys, n_quads, dots + r * exact::kPageTokens);
    }
    if (r < n_rows) dot_rows<1>(rows + r, keys, n_quads, dots + r * exact::kPageTokens);
}

/// vpmaddubsw, 8 dimensions: the planes are the unsigned operand. A pair of the low plane sums to
/// at most 2 * 63 * 128 = 16,128, so two pairs fit int16; of the high plane, 2 * 32 * 128 = 8,192.
/// kVectors accumulators of one row stay in registers.
template <int kVectors>
inline void value_block(const std::uint8_t* high, const std::uint8_t* low,
                        const std::int8_t* values, std::size_t dims, std::int32_t* a) {
    const Ints ones = _mm256_set1_epi16(1);
    const Ints sixty_four = _mm256_set1_epi16(64);
    Ints sums[kVectors];
    for (Ints& sum : sums)
        sum = zero_ints();
    for (std::size_t slot = 0; slot < exact::kPageTokens; slot += 8) {
        const Ints high0 = broadcast_quad(high + slot);
        const Ints high1 = broadcast_quad(high + slot + 4);
        const Ints low0 = broadcast_quad(low + slot);
        const Ints low1 = broadcast_quad(low + slot + 4);
        const std::int8_t* line = values + slot * dims;
        for (int i = 0; i < kVectors; ++i) {
            const Ints v0 = load_bytes(line + 32 * i);
            const Ints v1 = load_bytes(line + 4 * dims + 32 * static_cast<std::size_t>(i));
            const Ints of_low =
                _mm256_add_epi16(_mm256_maddubs_epi16(low0, v0), _mm256_maddubs_epi16(low1, v1));
            const Ints of_high =
                _mm256_add_epi16(_mm256_maddubs_epi16(high0, v0), _mm256_maddubs_epi16(high1, v1));
            sums[i] = add(sums[i], add(_mm256_madd_epi16(of_low, ones),
                                       _mm256_madd_epi16(of_high, sixty_four)));
        }
    }
    for (int i = 0; i < kVectors; ++i)
        store(a + 8 * i, sums[i]);
}

inline void page_values(const std::uint8_t* high, const std::uint8_t* low, int n_rows,
                        const std::int8_t* values, std::size_t dims, std::int32_t* a) {
    for (int r = 0; r < n_rows; ++r) {
        std::size_t i = 0;
        for (; i + 64 <= dims; i += 64)
            value_block<8>(high, low, values + 4 * i, dims, a + i);
        for (; i < dims; i += 16)
            value_block<2>(high, low, values + 4 * i, dims, a + i);
        high += exact::kPageTokens;
        low += exact::kPageTokens;
        a += dims;
    }
}

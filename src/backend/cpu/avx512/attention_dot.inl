// SPDX-License-Identifier: Apache-2.0
// Integer products of attention with vpdpbusd. Names as in generic/attention_dot.inl.

/// vpdpbusd wants an unsigned operand: the cache holds k + 128, and the sum starts at -128 sum(q).
inline constexpr std::uint8_t kKeyFlip = 0x80;

inline Ints broadcast_quad(const void* p) {
    std::int32_t quad = 0;
    std::memcpy(&quad, p, sizeof(quad));
    return _mm512_set1_epi32(quad);
}

/// vpdpbusd, 16 slots, adds four products of [0, 255] and [-127, 127] to int32 without saturation;
/// with head_dim <= 512 a sum stays below 2^24.
template <int kRows, typename Row>
inline void dot_rows(const Row* rows, const std::uint8_t* keys, int n_quads, std::int32_t* dots) {
    Ints sums[kRows][4];
    for (int r = 0; r < kRows; ++r) {
        for (Ints& sum : sums[r])
            sum = _mm512_set1_epi32(-128 * rows[r].q_sum);
    }
    for (int d = 0; d < n_quads; ++d) {
        Ints k[4];
        for (int i = 0; i < 4; ++i) {
            k[i] = _mm512_loadu_si512(keys + d * 4 * exact::kPageTokens + 64 * i);
        }
        for (int r = 0; r < kRows; ++r) {
            const Ints q = broadcast_quad(rows[r].q + 4 * d);
            for (int i = 0; i < 4; ++i)
                sums[r][i] = _mm512_dpbusd_epi32(sums[r][i], k[i], q);
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < 4; ++i)
            store(dots + r * exact::kPageTokens + 16 * i, sums[r][i]);
    }
}

template <typename Row>
inline void page_dots(const Row* rows, int n_rows, const std::uint8_t* keys, int n_quads,
                      std::int32_t* dots) {
    switch (n_rows) {
        case 1:
            return dot_rows<1>(rows, keys, n_quads, dots);
        case 2:
            return dot_rows<2>(rows, keys, n_quads, dots);
        case 3:
            return dot_rows<3>(rows, keys, n_quads, dots);
        default:
            return dot_rows<4>(rows, keys, n_quads, dots);
    }
}

/// vpdpbusd, 16 dimensions: the planes, at most 63 and 32, are the unsigned operand. Two rows of 64
/// dimensions and both planes are 16 accumulators.
template <int kRows, int kVectors>
inline void value_block(const std::uint8_t* high, const std::uint8_t* low,
                        const std::int8_t* values, std::size_t dims, std::int32_t* a) {
    Ints high_sums[kRows][kVectors];
    Ints low_sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kVectors; ++i)
            high_sums[r][i] = low_sums[r][i] = zero_ints();
    }
    for (int slot = 0; slot < exact::kPageTokens; slot += 4) {
        const std::int8_t* line = values + static_cast<std::size_t>(slot) * dims;
        Ints v[kVectors];
        for (int i = 0; i < kVectors; ++i)
            v[i] = _mm512_loadu_si512(line + 64 * i);
        for (int r = 0; r < kRows; ++r) {
            const Ints of_high = broadcast_quad(high + r * exact::kPageTokens + slot);
            const Ints of_low = broadcast_quad(low + r * exact::kPageTokens + slot);
            for (int i = 0; i < kVectors; ++i) {
                high_sums[r][i] = _mm512_dpbusd_epi32(high_sums[r][i], of_high, v[i]);
                low_sums[r][i] = _mm512_dpbusd_epi32(low_sums[r][i], of_low, v[i]);
            }
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int i = 0; i < kVectors; ++i) {
            store(a + static_cast<std::size_t>(r) * dims + 16 * i,
                  add(_mm512_slli_epi32(high_sums[r][i], 6), low_sums[r][i]));
        }
    }
}

template <int kRows>
inline void value_rows(const std::uint8_t* high, const std::uint8_t* low, const std::int8_t* values,
                       std::size_t dims, std::int32_t* a) {
    std::size_t i = 0;
    for (; i + 64 <= dims; i += 64)
        value_block<kRows, 4>(high, low, values + 4 * i, dims, a + i);
    for (; i < dims; i += 16)
        value_block<kRows, 1>(high, low, values + 4 * i, dims, a + i);
}

inline void page_values(const std::uint8_t* high, const std::uint8_t* low, int n_rows,
                        const std::int8_t* values, std::size_t dims, std::int32_t* a) {
    for (; n_rows >= 2; n_rows -= 2) {
        value_rows<2>(high, low, values, dims, a);
        high += 2 * exact::kPageTokens;
        low += 2 * exact::kPageTokens;
        a += 2 * dims;
    }
    if (n_rows == 1) value_rows<1>(high, low, values, dims, a);
}

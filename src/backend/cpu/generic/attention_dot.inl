// SPDX-License-Identifier: Apache-2.0
// Integer products of attention in plain C++. Included inside the namespace of an instruction set;
// avx2/attention_dot.inl and avx512/attention_dot.inl have the same names.

inline constexpr std::uint8_t kKeyFlip = 0x00;

/// dots[n_rows][64] of q[4 * n_quads] and the keys of a page, [n_quads][64][4] bytes (ATT-4).
template <typename Row>
inline void page_dots(const Row* rows, int n_rows, const std::uint8_t* keys, int n_quads,
                      std::int32_t* dots) {
    for (int r = 0; r < n_rows; ++r) {
        std::int32_t* out = dots + r * exact::kPageTokens;
        for (int j = 0; j < exact::kPageTokens; ++j)
            out[j] = 0;
        for (int d = 0; d < 4 * n_quads; ++d) {
            const std::uint8_t* of_dim = keys + d / 4 * 4 * exact::kPageTokens + d % 4;
            for (int j = 0; j < exact::kPageTokens; ++j) {
                out[j] += rows[r].q[d] * static_cast<std::int8_t>(of_dim[4 * j]);
            }
        }
    }
}

/// a[n_rows][dims] = sum over the 64 slots of (64 * high + low) * v, values [16][dims][4] (ATT-8):
/// below 64 * 2048 * 127 < 2^24.
inline void page_values(const std::uint8_t* high, const std::uint8_t* low, int n_rows,
                        const std::int8_t* values, std::size_t dims, std::int32_t* a) {
    for (int r = 0; r < n_rows; ++r) {
        std::int32_t* out = a + static_cast<std::size_t>(r) * dims;
        for (std::size_t i = 0; i < dims; ++i)
            out[i] = 0;
        for (int j = 0; j < exact::kPageTokens; ++j) {
            const int slot = r * exact::kPageTokens + j;
            const std::int32_t w = 64 * high[slot] + low[slot];
            const std::int8_t* of_slot =
                values + static_cast<std::size_t>(j / 4) * dims * 4 + j % 4;
            for (std::size_t i = 0; i < dims; ++i)
                out[i] += w * of_slot[4 * i];
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
// Primitives of E4 in plain C++, one row. Names as in avx2/e4_dot.inl and avx512/e4_dot.inl.

/// Sizes of token groups, descending to 1, and above how many tokens a tile is expanded: where that
/// is faster.
inline constexpr int kE4Groups[] = {4, 1};
inline constexpr int kE4TokensMax = 8;
/// Rows that lie in one vector of weights; a kernel holds the sums of 4.
inline constexpr int kE4VectorRows = 1;

inline constexpr E4Pairs kE4Pairs = make_e4_pairs(0);

/// 32 elements of K: of a token, and of one row.
using E4Input = const std::int8_t*;
struct E4Weights {
    std::int8_t q[kE4LineColumns];
};

inline E4Input load_e4_input(const std::int8_t* p) {
    return p;
}
/// A row from its 16 bytes of codes and its index byte.
inline E4Weights load_e4(const std::byte* codes, const std::byte* index) {
    const std::int8_t* table = kE4Pairs.rows[std::to_integer<std::size_t>(*index)];
    E4Weights weights;
    for (std::size_t i = 0; i < 16; ++i) {
        const auto both = std::to_integer<std::size_t>(codes[i]);
        weights.q[i] = table[both % 16];
        weights.q[i + 16] = table[16 + both / 16];
    }
    return weights;
}
/// sum + the 32 products. A sum lacks what e8_start() gives.
inline Ints e4_dot(Ints sum, const E4Weights& weights, E4Input x) {
    for (std::size_t i = 0; i < kE4LineColumns; ++i)
        sum += weights.q[i] * x[i];
    return sum;
}
/// The sum of each row of a vector.
inline void store_e4_sums(Ints sum, std::int32_t* to) {
    *to = sum;
}

/// 16 rows x 32 columns as 8 lines of E8. `group_rows` is the distance of two groups of rows, in
/// rows of 16 bytes.
inline void expand_e4_line(const std::byte* codes, const std::byte* indices, std::size_t group_rows,
                           std::byte* lines) {
    for (std::size_t row = 0; row < kE8TileRows; ++row) {
        const std::size_t at = row / kE4LineRows * group_rows + row % kE4LineRows;
        const E4Weights weights = load_e4(codes + at * 16, indices + at);
        for (std::size_t quad = 0; quad < kE4LineColumns / 4; ++quad)
            std::memcpy(lines + (quad * kE8TileRows + row) * 4, weights.q + quad * 4, 4);
    }
}

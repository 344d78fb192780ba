// SPDX-License-Identifier: Apache-2.0
// E4 over the primitives of one instruction set (spec FMT-17, LIN-2, LIN-3). Included inside its
// namespace, after its e4_dot.inl and linear.inl.

// In: codes [4][K / 32][4][16], indices [4][K / 32][4], and behind them those of the next 16 rows,
// so that a thread reads two streams; x [K / 32][tokens][32], |q| <= 127. Sums stay in registers
// over the whole of K. Floor: one read of codes and indices, 17 bytes for 32 weights.

/// How far ahead codes are asked for: the processor itself stops at each page of 4 KiB. On the
/// machine where this was chosen 4 KiB gave 95 % of what 8 and 12 KiB give, and none 70 %.
inline constexpr std::size_t kE4AheadBytes = 8192;
inline constexpr std::size_t kE4AheadIndexBytes = kE4AheadBytes / 16;

/// 4 rows from `first` on, for each token: sums[token][row].
template <int kTokens>
inline void e4_rows(const E4Tile& w, std::size_t first, std::size_t n_lines, const std::int8_t* q,
                    std::int32_t (&sums)[kTokens][kE8TileRows]) {
    const std::byte* indices = w.indices + first * n_lines;
    const std::byte* codes = w.codes + first * n_lines * 16;
    constexpr int kVectors = static_cast<int>(kE4LineRows) / kE4VectorRows;
    Ints products[kVectors][kTokens];
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t)
            products[v][t] = zero_ints();
    }
    for (std::size_t line = 0; line < n_lines; ++line) {  // LIN-2
        __builtin_prefetch(codes + kE4AheadBytes);
        __builtin_prefetch(indices + kE4AheadIndexBytes);
        E4Input x[kTokens];
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t)
            x[t] = load_e4_input(q + kE4LineColumns * static_cast<std::size_t>(t));
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
            const E4Weights weights =
                load_e4(codes + 16 * v * kE4VectorRows, indices + v * kE4VectorRows);
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t)
                products[v][t] = e4_dot(products[v][t], weights, x[t]);
        }
        codes += kE4LineRows * 16;
        indices += kE4LineRows;
        q += kE4LineColumns * kTokens;
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t)
            store_e4_sums(products[v][t], sums[t] + first + v * kE4VectorRows);
    }
}

template <int kTokens>
inline void e4_group(const E4Tile& w, std::size_t n_cols, const RowPanel& x,
                     const LinearOutput& out) {
    const std::size_t n_lines = n_cols / kE4LineColumns;
    alignas(64) std::int32_t sums[kTokens][kE8TileRows] = {};
    for (std::size_t row = 0; row < out.n_rows; row += kE4LineRows)
        e4_rows<kTokens>(w, row, n_lines, x.q, sums);
    for (std::size_t row = 0; row < out.n_rows; row += kWidth) {
        const Floats d = load(w.d + row);
        for (std::size_t t = 0; t < kTokens; ++t) {  // LIN-3
            const Ints sum = add(load(sums[t] + row), e8_start(x.sums[t]));
            write_rows(out, t, row, mul(to_floats(sum), mul(broadcast(x.a[t]), d)));
        }
    }
}

template <std::size_t kIndex = 0>
inline void e4(const E4Tile& w, std::size_t n_cols, const RowPanel& x, const LinearOutput& out) {
    if constexpr (kIndex < std::size(kE4Groups)) {
        constexpr int kTokens = kE4Groups[kIndex];
        if (x.n_tokens == kTokens) return e4_group<kTokens>(w, n_cols, x, out);
        e4<kIndex + 1>(w, n_cols, x, out);
    }
}

inline void expand_e4(const E4Tile& w, std::size_t n_cols, std::byte* lines) {
    const std::size_t n_lines = n_cols / kE4LineColumns;
    const std::size_t group_rows = n_lines * kE4LineRows;
    for (std::size_t line = 0; line < n_lines; ++line) {
        const std::size_t at = line * kE4LineRows;
        // The same line of the next tile, whose turn comes when products of this one are done.
        for (std::size_t group = 4; group < 8; ++group)
            __builtin_prefetch(w.codes + (group * group_rows + at) * 16, 0, 2);
        expand_e4_line(w.codes + at * 16, w.indices + at, group_rows,
                       lines + line * kE4LineColumns * kE8TileRows);
    }
}

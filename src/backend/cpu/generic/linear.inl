// SPDX-License-Identifier: Apache-2.0
// Linear layers over the primitives of one instruction set (spec LIN). Included inside its
// namespace, after its vector.inl and linear_dot.inl.

/// Rows [first, first + kWidth) of a tile for one token: + bias, + y, and only rows that exist.
inline void write_rows(const LinearOutput& out, std::size_t token, std::size_t first, Floats v) {
    if (first >= out.n_rows) return;
    const std::size_t left = out.n_rows - first;
    const std::size_t n = left < kWidth ? left : kWidth;
    float* y = out.y + token * out.stride + first;
    if (out.bias != nullptr) v = add(v, load_n(out.bias + first, n));  // LIN-1
    if (out.add) v = add(load_n(y, n), v);                             // RES-1
    store_n(y, v, n);
}

// E8. In: lines int8 [K / 4][16][4] (any int8 is safe); x [K / 4][tokens] quads, |q| <= 127. Sums
// stay in registers over the whole of K. Floor: one read of the lines.

/// How far ahead weights are asked for, where a kernel has more than one token. With one the
/// processor's own prefetcher keeps up.
inline constexpr std::size_t kE8AheadBytes = 8192;
inline constexpr std::size_t kRecordsAheadBytes = 4096;
inline constexpr std::size_t kCacheLineBytes = 64;

// Every loop over sums is unrolled: an index that is not a constant would keep them in memory.
template <int kTiles, int kTokens>
inline void e8_group(const E8Tiles& w, std::size_t n_cols, const RowPanel& x,
                     const LinearOutput& out) {
    constexpr int kVectors = static_cast<int>(kE8TileRows / kWidth) * kTiles;
    Ints sums[kVectors][kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t) {
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v)
            sums[v][t] = e8_start(x.sums[t]);
    }
    const std::size_t tile_bytes = n_cols * kE8TileRows;
    const std::byte* line = w.lines;
    const std::int8_t* q = x.q;
    for (std::size_t quad = 0; quad < n_cols / 4; ++quad) {  // LIN-2
        if constexpr (kTokens > 1) {
#pragma GCC unroll 16
            for (int tile = 0; tile < kTiles; ++tile)
                __builtin_prefetch(line + static_cast<std::size_t>(tile) * tile_bytes +
                                   kE8AheadBytes);
        }
        E8Line lines[kVectors];
#pragma GCC unroll 16
        for (int v = 0; v < kVectors; ++v) {
            const std::size_t row = static_cast<std::size_t>(v) * kWidth;
            lines[v] = load_e8(line + row / kE8TileRows * tile_bytes + row % kE8TileRows * 4);
        }
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            const E8Quad quad_x = load_e8_quad(q + kE8QuadBytes * t);
#pragma GCC unroll 16
            for (int v = 0; v < kVectors; ++v)
                sums[v][t] = e8_dot(sums[v][t], lines[v], quad_x);
        }
        line += 4 * kE8TileRows;
        q += kE8QuadBytes * kTokens;
    }
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) {
        const std::size_t row = static_cast<std::size_t>(v) * kWidth;
        const Floats d = load(w.d + row);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {  // LIN-3
            const Floats scale = mul(broadcast(x.a[t]), d);
            write_rows(out, static_cast<std::size_t>(t), row, mul(to_floats(sums[v][t]), scale));
        }
    }
}

template <int kTiles, std::size_t kIndex = 0>
inline void e8_choose(const E8Tiles& w, std::size_t n_cols, const RowPanel& x,
                      const LinearOutput& out) {
    if constexpr (kIndex < std::size(kE8Groups)) {
        constexpr int kTokens = kE8Groups[kIndex];
        if (x.n_tokens == kTokens) return e8_group<kTiles, kTokens>(w, n_cols, x, out);
        e8_choose<kTiles, kIndex + 1>(w, n_cols, x, out);
    }
}

inline void e8(const E8Tiles& w, std::size_t n_cols, const RowPanel& x, const LinearOutput& out) {
    if (w.n_tiles == kE8Tiles) return e8_choose<kE8Tiles>(w, n_cols, x, out);
    e8_choose<1>(w, n_cols, x, out);
}

// Blocked formats. In: records (linear_layout.h), QuantizedBlock [K / 32][tokens]. p_b and s_b are
// integers below 2^24 = 16,777,216 in every format, so computing them with floats, as sums *
// sub_scale, rounds nothing: q6_k has the largest p_b, 2 * 16 * 32 * 127 * 128 = 16,646,144, then
// iq4_xs, 32 * 127 * 127 * 32 = 16,516,096; s_b is at most 2 * 63 * 16 * 127 = 256,032.
// Floor: one read of the records.

/// Sums of the products of quads [kFirst, kFirst + kQuads) of a block, for each token.
template <Code kCode, int kFirst, int kQuads, int kTokens>
inline void dot_quads(const std::byte* codes, const QuantizedBlock* x, Ints (&sums)[kTokens]) {
    constexpr int kTogether = kQuads < quads_together(kCode) ? kQuads : quads_together(kCode);
#pragma GCC unroll 16
    for (int begin = kFirst; begin < kFirst + kQuads; begin += kTogether) {
        Ints products[kTokens];
#pragma GCC unroll 16
        for (int quad = begin; quad < begin + kTogether; ++quad) {
            const Line line = load_line<kCode>(codes, quad);
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) {
                const Ints so_far = quad == begin ? zero_ints() : products[t];
                products[t] = multiply_add<kCode>(so_far, line, load_quad(x[t].q + 4 * quad));
            }
        }
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            const Ints widened = widen<kCode>(products[t]);
            sums[t] = begin == kFirst ? widened : add(sums[t], widened);
        }
    }
}

/// p_b of one block (LIN-4), for each token. The offset of the codes is taken off here.
template <Code kCode, Scales kScales, int kOffset, int kTokens>
inline void block_products(const std::byte* codes, const Floats (&subs)[2], const QuantizedBlock* x,
                           Floats (&p)[kTokens]) {
    const Floats less = broadcast(-static_cast<float>(kOffset));
    Ints sums[kTokens];
    if constexpr (kScales == Scales::halves) {
        dot_quads<kCode, 0, 4>(codes, x, sums);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            Floats low = to_floats(sums[t]);
            if (kOffset != 0) low = fused(broadcast(x[t].half_sums[0]), less, low);
            p[t] = mul(low, subs[0]);
        }
        dot_quads<kCode, 4, 4>(codes, x, sums);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            Floats high = to_floats(sums[t]);
            if (kOffset != 0) high = fused(broadcast(x[t].half_sums[1]), less, high);
            p[t] = fused(high, subs[1], p[t]);
        }
    } else {
        dot_quads<kCode, 0, 8>(codes, x, sums);
#pragma GCC unroll 16
        for (int t = 0; t < kTokens; ++t) {
            p[t] = to_floats(sums[t]);
            if (kOffset != 0) p[t] = fused(broadcast(x[t].sum), less, p[t]);
            if (kScales == Scales::shared) p[t] = mul(p[t], subs[0]);
        }
    }
}

/// s_b of one block and token (LIN-4).
template <Scales kScales>
inline Floats block_minimum(const Floats (&sub_mins)[2], const QuantizedBlock& x) {
    if constexpr (kScales == Scales::halves) {
        return fused(broadcast(x.half_sums[1]), sub_mins[1],
                     mul(broadcast(x.half_sums[0]), sub_mins[0]));
    } else if constexpr (kScales == Scales::shared) {
        return mul(broadcast(x.sum), sub_mins[0]);
    } else {
        return broadcast(x.sum);
    }
}

template <exact::Format kFormat, int kTokens>
inline void blocked_group(const std::byte* record, std::size_t n_cols, const QuantizedBlock* x,
                          const LinearOutput& out) {
    constexpr BlockedForm kForm = blocked_form(kFormat);
    constexpr RecordLayout kLayout = record_layout(kForm, kWidth);
    constexpr int kOffset =
        kForm.code == Code::eight || kForm.code == Code::table ? kEightOffset : kForm.offset;
    constexpr std::size_t kSubs = kLayout.sub_mins / kWidth;
    Floats acc[kTokens];
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t)
        acc[t] = broadcast(0.0F);
    const std::size_t n_records = n_cols / (kLayout.n_blocks * exact::kBlock);
    for (std::size_t r = 0; r < n_records; ++r, record += kLayout.record_bytes) {
        if constexpr (kTokens > 1) {
#pragma GCC unroll 64
            for (std::size_t at = 0; at < kLayout.record_bytes; at += kCacheLineBytes)
                __builtin_prefetch(record + kRecordsAheadBytes + at);
        }
        const Floats d = load_f16(record);
        const Floats m = kForm.has_minimum ? load_f16(record + kLayout.m) : broadcast(0.0F);
        const std::byte* block = record + kLayout.blocks;
        for (std::size_t b = 0; b < kLayout.n_blocks; ++b, block += kLayout.block_bytes) {
            Floats subs[2] = {};
            Floats sub_mins[2] = {};
            for (std::size_t i = 0; i < kSubs; ++i) {
                subs[i] = load_sub(block + i * kWidth);
                if (kForm.has_minimum)
                    sub_mins[i] = load_sub(block + kLayout.sub_mins + i * kWidth);
            }
            Floats p[kTokens];
            block_products<kForm.code, kForm.scales, kOffset>(block + kLayout.codes, subs, x, p);
#pragma GCC unroll 16
            for (int t = 0; t < kTokens; ++t) {
                const Floats a = broadcast(x[t].a);
                acc[t] = fused(p[t], mul(d, a), acc[t]);  // LIN-5
                if constexpr (kForm.has_minimum) {
                    acc[t] = fused(block_minimum<kForm.scales>(sub_mins, x[t]), mul(m, a),
                                   acc[t]);  // LIN-6
                }
            }
            x += kTokens;
        }
    }
#pragma GCC unroll 16
    for (int t = 0; t < kTokens; ++t)
        write_rows(out, static_cast<std::size_t>(t), 0, acc[t]);
}

template <exact::Format kFormat, std::size_t kIndex = 0>
inline void blocked(const std::byte* records, std::size_t n_cols, const BlockPanel& x,
                    const LinearOutput& out) {
    if constexpr (kIndex < std::size(kBlockedGroups)) {
        constexpr int kTokens = kBlockedGroups[kIndex];
        if (x.n_tokens == kTokens) {
            return blocked_group<kFormat, kTokens>(records, n_cols, x.blocks, out);
        }
        blocked<kFormat, kIndex + 1>(records, n_cols, x, out);
    }
}

inline BlockedKernel blocked_kernel(exact::Format format) {
    using exact::Format;
    switch (format) {
        case Format::q4_0:
            return blocked<Format::q4_0>;
        case Format::q4_1:
            return blocked<Format::q4_1>;
        case Format::q5_0:
            return blocked<Format::q5_0>;
        case Format::q5_1:
            return blocked<Format::q5_1>;
        case Format::q8_0:
            return blocked<Format::q8_0>;
        case Format::q2_k:
            return blocked<Format::q2_k>;
        case Format::q3_k:
            return blocked<Format::q3_k>;
        case Format::q4_k:
            return blocked<Format::q4_k>;
        case Format::q5_k:
            return blocked<Format::q5_k>;
        case Format::q6_k:
            return blocked<Format::q6_k>;
        case Format::iq4_nl:
            return blocked<Format::iq4_nl>;
        case Format::iq4_xs:
            return blocked<Format::iq4_xs>;
        default:
            return nullptr;
    }
}

/// SUM-1 of two rows: 256 lanes in registers a few at a time, each in ascending order. The elements
/// behind the last whole vector are the last of their lanes and come when the lanes are in memory.
inline float dot_floats(const float* w, const float* x, std::size_t n_cols) {
    constexpr std::size_t kGroup = kSumVectors * kWidth;
    const std::size_t whole = n_cols / kWidth * kWidth;
    alignas(64) float lanes[exact::kLanes];
    for (std::size_t group = 0; group < exact::kLanes; group += kGroup) {
        Floats sums[kSumVectors];
        for (Floats& sum : sums)
            sum = broadcast(0.0F);
        for (std::size_t begin = group; begin < whole; begin += exact::kLanes) {
            for (std::size_t j = 0; j < kSumVectors; ++j) {
                const std::size_t i = begin + j * kWidth;
                if (i >= whole) break;
                sums[j] = fused(load(w + i), load(x + i), sums[j]);
            }
        }
        for (std::size_t j = 0; j < kSumVectors; ++j)
            store(lanes + group + j * kWidth, sums[j]);
    }
    for (std::size_t i = whole; i < n_cols; ++i) {
        float& lane = lanes[i % exact::kLanes];
        lane = std::fma(w[i], x[i], lane);
    }
    return sum_tree(lanes);
}

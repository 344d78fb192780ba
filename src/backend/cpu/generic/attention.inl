// SPDX-License-Identifier: Apache-2.0
// Attention of one tile of query rows over pages of the KV cache (spec ATT-4 to ATT-11). Included
// inside the namespace of an instruction set, after its vector.inl, attention_dot.inl and
// float_rows.inl.
//
// A page is visited once for all rows of the tile, a few rows (kRowBlock) at a time: dots of q and
// 64 keys, the weights of the page as two planes of bytes, their products with the values, the
// join.

inline constexpr int kRowBlock = 4;
/// Largest head_dim of a stack buffer below; KvCache refuses more.
inline constexpr std::size_t kHeadDimPadded = kHeadDimMax;

/// One row of a tile, and the keys that it sees.
struct QueryRow {
    const std::int8_t* q;
    std::int32_t q_sum;
    float c;  // scale_q * C (ATT-3)
    std::int64_t first;
    std::int64_t last;
};

/// Value scales of the visible slots [low, high] of a page, in units of 2^e (ATT-7).
struct PageUnits {
    int low = -1;
    int high = -1;
    int e = 0;
    alignas(64) float unit[exact::kPageTokens];
};

struct PageSum {
    std::int32_t m = 0;  // exponent m_b (ATT-5)
    std::int32_t l = 0;  // sum of rne(p 2^16) (ATT-6)
};

inline void compute_units(const float* value_scales, int low, int high, PageUnits& units) {
    units.low = low;
    units.high = high;
    Ints largest = zero_ints();
    for (int j = 0; j < exact::kPageTokens; j += static_cast<int>(kWidth)) {
        // A slot that is not visible may hold anything; it counts as zero, and so does its weight.
        const Floats v = select_range(load(value_scales + j), broadcast(0.0F), j, low, high);
        store(units.unit + j, v);
        largest = larger(largest, magnitude_bits(v));
    }
    const std::int32_t bits = largest_lane(largest);
    units.e = bits > 0 ? (bits >> 23) - 126 : 0;
    const Floats to_unit = broadcast(exact::power_of_two(-units.e / 2));
    const Floats to_unit_rest = broadcast(exact::power_of_two(-units.e - (-units.e / 2)));
    for (std::size_t j = 0; j < exact::kPageTokens; j += kWidth) {
        store(units.unit + j, mul(mul(load(units.unit + j), to_unit), to_unit_rest));
    }
}

/// From dots to the page's exponent, sum and weights. Returns false when the exponent is out of
/// range (ERR-2). A slot outside [low, high] gets t = -infinity, hence p = 2^-32, which rounds to 0
/// in the sum, and its unit is 0: no further mask is needed.
inline bool weigh_page(const std::int32_t* dots, const float* key_scales, float c,
                       const PageUnits& units, PageSum& sum, std::uint8_t* high,
                       std::uint8_t* low) {
    alignas(64) float t[exact::kPageTokens];
    const Floats none = broadcast(-std::numeric_limits<float>::infinity());
    const Floats by = broadcast(c);
    const bool whole = units.low == 0 && units.high == exact::kPageTokens - 1;
    Floats largest = none;
    for (int j = 0; j < exact::kPageTokens; j += static_cast<int>(kWidth)) {
        const Floats x = mul(to_floats(load(dots + j)), load(key_scales + j));  // ATT-4
        Floats v = mul(x, by);
        if (!whole) v = select_range(v, none, j, units.low, units.high);
        store(t + j, v);
        largest = larger(v, largest);
    }
    const float ceiling = std::ceil(largest_lane(largest));
    if (!(std::abs(ceiling) < exact::kMaxAbsExponent)) return false;  // ERR-2
    sum.m = static_cast<std::int32_t>(ceiling);                       // ATT-5
    const Floats m = broadcast(static_cast<float>(sum.m));
    Ints l = zero_ints();
    for (std::size_t j = 0; j < exact::kPageTokens; j += kWidth) {
        const Floats d = larger(sub(load(t + j), m), broadcast(-32.0F));  // ATT-6
        const Floats n = rne(d);
        const Floats f = sub(d, n);
        Floats p = broadcast(0x1.c3f76p-5F);  // MTH-2
        p = fused(p, f, broadcast(0x1.f0de1ap-3F));
        p = fused(p, f, broadcast(0x1.62f31ap-1F));
        p = fused(p, f, broadcast(0x1.fff692p-1F));
        p = mul(p, power_of_two(nearest(n)));
        l = add(l, nearest(mul(p, broadcast(65536.0F))));
        const Floats w = mul(mul(p, load(units.unit + j)), broadcast(2048.0F));  // ATT-7
        store_planes(high + j, low + j, nearest(w));
    }
    sum.l = sum_lanes(l);
    return true;
}

/// Factor 2^(from - to) of a join, 0 below 2^-64 (ATT-9).
inline float join_factor(std::int32_t from, std::int32_t to) {
    return from - to < -64 ? 0.0F : exact::power_of_two(from - to);
}

/// Joins a page into a row's state (ATT-9).
inline void join_page(const PageSum& page, int e, const std::int32_t* a, std::size_t dims,
                      RowState& state, float* o) {
    if (state.empty) {
        state.empty = false;
        state.m = page.m;
        state.l = static_cast<float>(page.l);
        const Floats unit = broadcast(exact::power_of_two(e - 11));
        for (std::size_t i = 0; i < dims; i += kWidth) {
            store(o + i, mul(to_floats(load(a + i)), unit));
        }
        return;
    }
    const std::int32_t m = state.m > page.m ? state.m : page.m;
    const float s = join_factor(state.m, m);
    const float u = join_factor(page.m, m);
    const Floats unit = broadcast(u * exact::power_of_two(e - 11));
    const Floats by = broadcast(s);
    state.m = m;
    state.l = state.l * s + static_cast<float>(page.l) * u;
    for (std::size_t i = 0; i < dims; i += kWidth) {
        store(o + i, fused(to_floats(load(a + i)), unit, mul(load(o + i), by)));
    }
}

/// The rows of a tile and the keys that each sees (ATT-1).
inline void list_rows(const AttentionTile& tile, QueryRow* rows) {
    const float constant = exact::attention_constant(tile.head_dim);  // ATT-3
    for (int t = 0; t < tile.n_tokens; ++t) {
        const auto visible = exact::visible_keys(tile.position + t, tile.sliding_window);
        for (int h = 0; h < tile.n_heads; ++h) {
            const auto token = static_cast<std::size_t>(t);
            const auto head = static_cast<std::size_t>(h);
            const std::size_t i = token * tile.scales_stride + head;
            rows[t * tile.n_heads + h] = {
                tile.q + token * tile.token_stride + head * tile.head_stride, tile.q_sums[i],
                tile.q_scales[i] * constant, visible.first, visible.last};
        }
    }
}

/// Up to kRowBlock rows over one page.
inline void attend_page(const QueryRow* rows, int n_rows, const AttentionTile& tile,
                        std::int64_t page, PageUnits& units, RowState* states, float* o) {
    constexpr int kSlots = exact::kPageTokens;
    const auto id = static_cast<std::size_t>(tile.page_table[page]);
    const float* key_scales = tile.kv.key_scales + id * tile.kv.scales_stride;
    const float* value_scales = tile.kv.value_scales + id * tile.kv.scales_stride;
    const std::size_t dims = padded(static_cast<std::size_t>(tile.head_dim));
    alignas(64) std::int32_t dots[kRowBlock * kSlots];
    alignas(64) std::uint8_t high[kRowBlock * kSlots];
    alignas(64) std::uint8_t low[kRowBlock * kSlots];
    alignas(64) std::int32_t a[kRowBlock * kHeadDimPadded];
    page_dots(rows, n_rows, tile.kv.keys + id * tile.kv.keys_stride, (tile.head_dim + 3) / 4, dots);
    PageSum sums[kRowBlock];
    int exponents[kRowBlock] = {};
    bool joins[kRowBlock] = {};
    for (int r = 0; r < n_rows; ++r) {
        const std::int64_t begin = page * kSlots;
        const std::int64_t from = rows[r].first > begin ? rows[r].first - begin : 0;
        const std::int64_t to =
            rows[r].last - begin < kSlots - 1 ? rows[r].last - begin : kSlots - 1;
        joins[r] = from < kSlots && to >= 0 && !states[r].failed;
        if (joins[r]) {
            const int first = static_cast<int>(from);
            const int last = static_cast<int>(to);
            if (units.low != first || units.high != last) {
                compute_units(value_scales, first, last, units);
            }
            exponents[r] = units.e;
            joins[r] = weigh_page(dots + r * kSlots, key_scales, rows[r].c, units, sums[r],
                                  high + r * kSlots, low + r * kSlots);
            states[r].failed = !joins[r];
        }
        if (!joins[r]) {
            std::memset(high + r * kSlots, 0, kSlots);
            std::memset(low + r * kSlots, 0, kSlots);
        }
    }
    page_values(high, low, n_rows, tile.kv.values + id * tile.kv.values_stride, dims, a);
    for (int r = 0; r < n_rows; ++r) {
        const auto row = static_cast<std::size_t>(r);
        if (joins[r])
            join_page(sums[r], exponents[r], a + row * dims, dims, states[r], o + row * dims);
    }
}

inline void attend_chunk(const AttentionTile& tile, std::int64_t chunk, TileStates states) {
    QueryRow rows[kTileRowsMax];
    list_rows(tile, rows);
    const int n_rows = tile.n_rows();
    const std::size_t dims = padded(static_cast<std::size_t>(tile.head_dim));
    for (int r = 0; r < n_rows; ++r)
        states.rows[r] = RowState{};
    constexpr std::int64_t kPages = exact::kChunkTokens / exact::kPageTokens;
    const std::int64_t first_visible = rows[0].first / exact::kPageTokens;
    const std::int64_t last_visible = rows[n_rows - 1].last / exact::kPageTokens;
    const std::int64_t first = first_visible > chunk * kPages ? first_visible : chunk * kPages;
    const std::int64_t end = (chunk + 1) * kPages;
    for (std::int64_t page = first; page <= last_visible && page < end; ++page) {
        PageUnits units;
        for (int r = 0; r < n_rows; r += kRowBlock) {
            const int n = n_rows - r < kRowBlock ? n_rows - r : kRowBlock;
            // Rows see ranges that ascend with their token.
            if (rows[r + n - 1].last < page * exact::kPageTokens) continue;
            if (rows[r].first >= (page + 1) * exact::kPageTokens) break;
            attend_page(rows + r, n, tile, page, units, states.rows + r,
                        states.o + static_cast<std::size_t>(r) * dims);
        }
    }
}

inline void join_chunk(const AttentionTile& tile, TileStates chunk, TileStates total) {  // ATT-10
    const std::size_t dims = padded(static_cast<std::size_t>(tile.head_dim));
    for (int r = 0; r < tile.n_rows(); ++r) {
        const RowState& from = chunk.rows[r];
        RowState& to = total.rows[r];
        const float* from_o = chunk.o + static_cast<std::size_t>(r) * dims;
        float* o = total.o + static_cast<std::size_t>(r) * dims;
        const bool failed = to.failed || from.failed;
        if (to.empty && !from.empty) {
            to = from;
            std::memcpy(o, from_o, dims * sizeof(float));
        } else if (!from.empty) {
            const std::int32_t m = to.m > from.m ? to.m : from.m;
            const float s = join_factor(to.m, m);
            const float u = join_factor(from.m, m);
            to.m = m;
            to.l = to.l * s + from.l * u;
            const Floats by_s = broadcast(s);
            const Floats by_u = broadcast(u);
            for (std::size_t i = 0; i < dims; i += kWidth) {
                store(o + i, fused(load(from_o + i), by_u, mul(load(o + i), by_s)));
            }
        }
        to.failed = failed;
    }
}

inline void finish_row(const RowState& state, const float* state_o, int head_dim, float* o) {
    const auto dims = static_cast<std::size_t>(head_dim);
    if (state.failed) {
        std::memset(o, 0, dims * sizeof(float));
        return;
    }
    const Floats r = broadcast((1.0F / state.l) * 65536.0F);  // ATT-11
    for_vectors(dims, [&](std::size_t i, std::size_t n) {
        store_n(o + i, mul(load_n(state_o + i, n), r), n);
    });
}

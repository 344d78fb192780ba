// SPDX-License-Identifier: Apache-2.0
// Primitives of linear layers in plain C++, one row. Included inside the namespace of an
// instruction set; avx2/linear_dot.inl and avx512/linear_dot.inl have the same names.

/// What is added to 8-bit codes of records, and what a sum of E8 starts with.
inline constexpr int kEightOffset = 0;

/// Tiles and tokens whose sums a kernel holds at a time; sizes of groups descend to 1.
inline constexpr int kE8Tiles = 1;
inline constexpr int kE8Groups[] = {4, 1};
inline constexpr int kBlockedGroups[] = {4, 1};

/// Four elements of K: of a token, and of one row.
struct Quad {
    std::int8_t q[4];
};
using Line = Quad;

inline Quad load_quad(const std::int8_t* p) {
    return {{p[0], p[1], p[2], p[3]}};
}
/// Bytes of a quad of x in a panel for E8, and how it is read.
inline constexpr int kE8QuadBytes = 4;
using E8Quad = Quad;
using E8Line = Quad;
inline E8Quad load_e8_quad(const std::int8_t* p) {
    return load_quad(p);
}
inline E8Line load_e8(const std::byte* p) {
    return load_quad(reinterpret_cast<const std::int8_t*>(p));
}
inline Ints e8_start(std::int32_t /*sum_x*/) {
    return 0;
}
/// sum + the four products (LIN-2).
inline Ints e8_dot(Ints sum, const E8Line& line, const E8Quad& x) {
    for (int i = 0; i < 4; ++i)
        sum += line.q[i] * x.q[i];
    return sum;
}

/// Quad `quad` in [0, 8) of a block from its codes (linear_layout.h).
template <Code kCode>
inline Line load_line(const std::byte* codes, int quad) {
    constexpr bool kFourBits = kCode == Code::nibble || kCode == Code::table;
    const auto* from = codes + 4 * (kFourBits ? quad / 2 : quad);
    Line line = load_e8(from);
    if constexpr (kFourBits) {
        for (std::size_t i = 0; i < 4; ++i) {
            const auto both = std::to_integer<unsigned>(from[i]);
            const unsigned code = quad % 2 == 0 ? both & 15U : both >> 4;
            line.q[i] =
                kCode == Code::table ? exact::kIq4Table[code] : static_cast<std::int8_t>(code);
        }
    }
    return line;
}

/// Quads whose products may be added before widen() makes int32 of them.
constexpr int quads_together(Code /*code*/) {
    return 8;
}
/// products + the four products of a line and a quad.
template <Code kCode>
inline Ints multiply_add(Ints products, const Line& line, const Quad& x) {
    return e8_dot(products, line, x);
}
template <Code kCode>
inline Ints widen(Ints products) {
    return products;
}

inline Floats load_f16(const std::byte* p) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, p, sizeof(bits));
    return exact::float_from_f16(bits);
}
inline Floats load_sub(const std::byte* p) {
    return static_cast<std::int8_t>(*p);
}

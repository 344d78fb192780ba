// SPDX-License-Identifier: Apache-2.0
// Weight formats in integers: how each stored block reads as the operands of the linear rules
// (spec FMT-1 to FMT-17, LIN-4 to LIN-6).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace etalon::exact {

/// Weight formats. The order is the order of the tables in formats.cpp.
enum class Format : std::uint8_t {
    f32,
    f16,
    bf16,
    q4_0,
    q4_1,
    q5_0,
    q5_1,
    q8_0,
    q2_k,
    q3_k,
    q4_k,
    q5_k,
    q6_k,
    iq4_nl,
    iq4_xs,
    e8,
    e4,
};
inline constexpr int kFormatCount = 17;

/// What kind of linear rule a format follows.
enum class FormatKind : std::uint8_t {
    floating,    ///< f32, f16, bf16: 256-lane float dot product with float activations (LIN-7)
    blocked,     ///< GGUF types: activations int8 per 32 elements (LIN-4 to LIN-6)
    row_scaled,  ///< e8, e4: activations int8 per row (LIN-1 to LIN-3)
};

struct FormatInfo {
    std::string_view name;  ///< as the commands print it: "q4_1", "e8"
    FormatKind kind;
    int block_elements;  ///< elements of K in one stored block: 1, 16, 32 or 256
    int block_bytes;     ///< bytes of one stored block
};

const FormatInfo& format_info(Format format);
std::optional<Format> format_from_name(std::string_view name);

/// True for the blocked formats with a minimum term: q4_1, q5_1, q2_k, q4_k, q5_k (LIN-6).
constexpr bool format_has_minimum(Format format) noexcept {
    return format == Format::q4_1 || format == Format::q5_1 || format == Format::q2_k ||
           format == Format::q4_k || format == Format::q5_k;
}

/// Elements of K that share one activation scale in blocked formats (QNT-3).
inline constexpr int kBlock = 32;

/// 32 elements of K of one weight row, as the linear rules consume them. Weight i of the block is
///   d * sub_scale[i / 16] * q[i] + m * sub_min[i / 16]
/// Ranges: |q| <= 128; |sub_scale| <= 128; 0 <= sub_min <= 63; d and m finite. Formats without
/// sub-blocks have sub_scale = {1, 1}; formats without a minimum have m = 0 and sub_min = {0, 0}.
struct Block32 {
    std::array<std::int8_t, kBlock> q;
    std::array<std::int16_t, 2> sub_scale;
    std::array<std::int16_t, 2> sub_min;
    float d;
    float m;  ///< signed: +m for q4_1, q5_1; -dmin for the K types
};

/// Decodes block `b` (elements 32b .. 32b+31 of K) of a row stored in a blocked format.
/// `row` holds the whole row: at least (32 * (b + 1)) elements.
Block32 decode_block32(Format format, std::span<const std::byte> row, std::size_t b);

/// The weights of a row as binary32, `out.size()` of them, for every format but e8 and e4; bit for
/// bit what the GGUF package of its authors computes:
///   (d * float(sub_scale)) * float(q) + m * float(sub_min), each operation rounded.
void dequantize_row(Format format, std::span<const std::byte> row, std::span<float> out);

/// True when every scale (blocked formats) or weight (floating formats) of the row is finite.
bool row_is_finite(Format format, std::span<const std::byte> row, std::size_t n_elements);

/// Bytes of a row of `n_elements`; nullopt when the format cannot hold that many (no whole blocks)
/// or the product does not fit. Not for e8 and e4, whose rows are interleaved in tiles.
std::optional<std::size_t> row_bytes(Format format, std::size_t n_elements);

/// binary16 and bfloat16 to binary32, exact (FMT-1, FMT-2).
float float_from_f16(std::uint16_t bits) noexcept;
float float_from_bf16(std::uint16_t bits) noexcept;

/// The table of E4 (FMT-17): q_w = kE4Table[s][c].
/// rne(N[c] * m[s]), N = -127 -103.8 -82.1 -64 -48.6 -34.6 -21.4 -9 2.8 14.4 26.2 38.3 51.6 66.4
/// 83.7 111.7 and m = -.993 -.839 -.74 -.665 -.606 -.554 -.492 -.422 .419 .485 .556 .614 .674 .742
/// .838 1; the integers are frozen, the formula is their origin only.
inline constexpr std::array<std::array<std::int8_t, 16>, 16> kE4Table{{
    {126, 103, 82, 64, 48, 34, 21, 9, -3, -14, -26, -38, -51, -66, -83, -111},
    {107, 87, 69, 54, 41, 29, 18, 8, -2, -12, -22, -32, -43, -56, -70, -94},
    {94, 77, 61, 47, 36, 26, 16, 7, -2, -11, -19, -28, -38, -49, -62, -83},
    {84, 69, 55, 43, 32, 23, 14, 6, -2, -10, -17, -25, -34, -44, -56, -74},
    {77, 63, 50, 39, 29, 21, 13, 5, -2, -9, -16, -23, -31, -40, -51, -68},
    {70, 58, 45, 35, 27, 19, 12, 5, -2, -8, -15, -21, -29, -37, -46, -62},
    {62, 51, 40, 31, 24, 17, 11, 4, -1, -7, -13, -19, -25, -33, -41, -55},
    {54, 44, 35, 27, 21, 15, 9, 4, -1, -6, -11, -16, -22, -28, -35, -47},
    {-53, -43, -34, -27, -20, -14, -9, -4, 1, 6, 11, 16, 22, 28, 35, 47},
    {-62, -50, -40, -31, -24, -17, -10, -4, 1, 7, 13, 19, 25, 32, 41, 54},
    {-71, -58, -46, -36, -27, -19, -12, -5, 2, 8, 15, 21, 29, 37, 47, 62},
    {-78, -64, -50, -39, -30, -21, -13, -6, 2, 9, 16, 24, 32, 41, 51, 69},
    {-86, -70, -55, -43, -33, -23, -14, -6, 2, 10, 18, 26, 35, 45, 56, 75},
    {-94, -77, -61, -47, -36, -26, -16, -7, 2, 11, 19, 28, 38, 49, 62, 83},
    {-106, -87, -69, -54, -41, -29, -18, -8, 2, 12, 22, 32, 43, 56, 70, 94},
    {-127, -104, -82, -64, -49, -35, -21, -9, 3, 14, 26, 38, 52, 66, 84, 112},
}};

/// The table of IQ4_NL and IQ4_XS (FMT-14).
extern const std::array<std::int8_t, 16> kIq4Table;

}  // namespace etalon::exact

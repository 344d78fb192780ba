// SPDX-License-Identifier: Apache-2.0
// How GGUF weights lie in memory for the kernels of the CPU and of cards: records that each hold 32
// or 256 elements of a tile of rows, made once at load from the blocks of src/exact/formats.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "exact/formats.h"

namespace etalon::backend::cpu {

/// Rows of one tile of an E8 matrix (src/weights/layouts.md), and to how many rows an E4 matrix is
/// filled up.
inline constexpr std::size_t kE8TileRows = 16;
/// Rows and elements of K of one line of codes of an E4 matrix.
inline constexpr std::size_t kE4LineRows = 4;
inline constexpr std::size_t kE4LineColumns = 32;

/// How codes are stored, which says what a kernel may add up before it widens.
enum class Code : std::uint8_t {
    nibble,  ///< 4 bits, the value in [0, 15]
    table,   ///< 4 bits, an index of the table of IQ4 (FMT-14)
    five,    ///< a byte in [0, 31]
    six,     ///< a byte in [0, 63]
    eight,   ///< a byte; signed, or unsigned with 128 added where the kernels want that
};

/// Sub-scales of 32 elements.
enum class Scales : std::uint8_t {
    none,
    shared,  ///< one for all 32
    halves,  ///< one for elements 0..15 and one for 16..31
};

/// What a blocked format needs of a kernel. The weight is (code - offset), but for `table`.
struct BlockedForm {
    Code code = Code::eight;
    Scales scales = Scales::none;
    bool has_minimum = false;
    int offset = 0;
};

constexpr BlockedForm blocked_form(exact::Format format) noexcept {
    using exact::Format;
    switch (format) {
        case Format::q4_0:
            return {Code::nibble, Scales::none, false, 8};
        case Format::q4_1:
            return {Code::nibble, Scales::none, true, 0};
        case Format::q5_0:
            return {Code::five, Scales::none, false, 16};
        case Format::q5_1:
            return {Code::five, Scales::none, true, 0};
        case Format::q2_k:
            return {Code::nibble, Scales::halves, true, 0};
        case Format::q3_k:
            return {Code::nibble, Scales::halves, false, 4};
        case Format::q4_k:
            return {Code::nibble, Scales::shared, true, 0};
        case Format::q5_k:
            return {Code::five, Scales::shared, true, 0};
        case Format::q6_k:
            return {Code::six, Scales::halves, false, 32};
        case Format::iq4_nl:
            return {Code::table, Scales::none, false, 0};
        case Format::iq4_xs:
            return {Code::table, Scales::shared, false, 0};
        default:  // q8_0
            return {Code::eight, Scales::none, false, 0};
    }
}

/// Byte offsets in a record of W rows:
///   d     binary16 [W]                          one for the whole record
///   m     binary16 [W]                          formats with a minimum
///   then for each block of 32 elements:
///     sub_scales int8 [1 or 2][W], sub_mins int8 [1 or 2][W]
///     codes      bytes [8][W][4]: quad q of a row holds elements 4 q .. 4 q + 3 of the block; or
///                nibbles [4][W][4]: quad 2 p in the low and quad 2 p + 1 in the high 4 bits
/// Example, q4_1 with W = 16: d at 0, m at 32, codes at 64, 320 bytes a record: 5 bits a weight.
struct RecordLayout {
    std::size_t n_blocks = 1;  ///< of 32 elements: 8 where the format has sub-scales
    std::size_t m = 0;
    std::size_t blocks = 0;    ///< of the first block
    std::size_t sub_mins = 0;  ///< within a block; sub_scales are at 0
    std::size_t codes = 0;     ///< within a block
    std::size_t block_bytes = 0;
    std::size_t record_bytes = 0;
};

constexpr RecordLayout record_layout(const BlockedForm& form, std::size_t width) noexcept {
    const bool four_bits = form.code == Code::nibble || form.code == Code::table;
    const std::size_t n_subs =
        form.scales == Scales::none ? 0 : (form.scales == Scales::halves ? 2 : 1);
    RecordLayout layout;
    layout.n_blocks = n_subs == 0 ? 1 : 8;
    layout.m = 2 * width;
    layout.blocks = form.has_minimum ? 4 * width : 2 * width;
    layout.sub_mins = n_subs * width;
    layout.codes = form.has_minimum ? 2 * n_subs * width : n_subs * width;
    layout.block_bytes = layout.codes + (four_bits ? 16 : 32) * width;
    layout.record_bytes = layout.blocks + layout.n_blocks * layout.block_bytes;
    return layout;
}

/// Bytes of `n_rows` x `n_cols` weights in records of tiles of `width` rows.
std::size_t repacked_bytes(exact::Format format, std::size_t width, std::size_t n_rows,
                           std::size_t n_cols) noexcept;

/// Writes the records of one tile: the rows that stand in `rows`, `row_bytes` apart, at most
/// `width`; rows that are missing get codes and scales of zero. `eight_offset` is added to 8-bit
/// codes.
void repack_tile(exact::Format format, std::size_t width, int eight_offset, std::size_t n_cols,
                 std::span<const std::byte> rows, std::size_t row_bytes, std::byte* out);

}  // namespace etalon::backend::cpu

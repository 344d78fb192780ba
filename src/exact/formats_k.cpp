// SPDX-License-Identifier: Apache-2.0
// Formats with blocks of 256 elements and integer sub-scales (spec FMT-9 to FMT-13, FMT-15). Codes
// are stored in planes of bits; the comments give byte offsets inside a block.
#include "exact/formats_blocks.h"

namespace etalon::exact {

namespace {

std::int16_t i16(unsigned value) noexcept {
    return static_cast<std::int16_t>(value);
}

struct ScaleMin {
    std::int16_t scale;
    std::int16_t min;
};

/// Scale and minimum `j` of q4_k and q5_k: 6 bits each, the upper four pairs in two pieces.
ScaleMin scale_min_6bit(const std::byte* p, std::size_t j) noexcept {
    if (j < 4) return {i16(byte_at(p, j) & 63U), i16(byte_at(p, j + 4) & 63U)};
    const unsigned low = byte_at(p, j + 4);
    const unsigned scale_high = byte_at(p, j - 4) >> 6;
    const unsigned min_high = byte_at(p, j) >> 6;
    return {i16((low & 15U) | (scale_high << 4)), i16((low >> 4) | (min_high << 4))};
}

/// Scale `s` of q3_k: 4 low bits and 2 high bits apart, offset 32.
std::int16_t scale_q3_k(const std::byte* p, std::size_t s) noexcept {
    const unsigned low = s < 8 ? byte_at(p, s) & 15U : byte_at(p, s - 8) >> 4;
    const unsigned high = (byte_at(p, 8 + s % 4) >> (2 * (s / 4))) & 3U;
    return static_cast<std::int16_t>(static_cast<int>(low | (high << 4)) - 32);
}

}  // namespace

void decode_q2_k(const std::byte* block, std::size_t j, Block32& out) noexcept {  // FMT-9
    const std::byte* codes = block + 16 + j / 4 * 32;  // scales 0..15, codes 16..79, d, dmin
    const auto shift = static_cast<unsigned>(2 * (j % 4));
    for (std::size_t i = 0; i < kBlock; ++i) {
        out.q[i] = static_cast<std::int8_t>((byte_at(codes, i) >> shift) & 3U);
    }
    for (std::size_t half = 0; half < 2; ++half) {
        const unsigned packed = byte_at(block, 2 * j + half);
        out.sub_scale[half] = i16(packed & 15U);
        out.sub_min[half] = i16(packed >> 4);
    }
    out.d = f16_at(block + 80);
    out.m = -f16_at(block + 82);
}

void decode_q3_k(const std::byte* block, std::size_t j, Block32& out) noexcept {  // FMT-10
    const std::byte* codes = block + 32 + j / 4 * 32;  // high bits 0..31, codes 32..95, scales, d
    const auto shift = static_cast<unsigned>(2 * (j % 4));
    for (std::size_t i = 0; i < kBlock; ++i) {
        const auto low = static_cast<int>((byte_at(codes, i) >> shift) & 3U);
        // NOTE: a set high bit means that nothing is subtracted.
        const bool high = ((byte_at(block, i) >> j) & 1U) != 0;
        out.q[i] = static_cast<std::int8_t>(high ? low : low - 4);
    }
    out.sub_scale = {scale_q3_k(block + 96, 2 * j), scale_q3_k(block + 96, 2 * j + 1)};
    out.d = f16_at(block + 108);
}

void decode_q4_k(const std::byte* block, std::size_t j, Block32& out) noexcept {  // FMT-11
    const std::byte* codes = block + 16 + j / 2 * 32;  // d, dmin, scales 4..15, codes 16..143
    const auto shift = static_cast<unsigned>(4 * (j % 2));
    for (std::size_t i = 0; i < kBlock; ++i) {
        out.q[i] = static_cast<std::int8_t>((byte_at(codes, i) >> shift) & 15U);
    }
    const ScaleMin pair = scale_min_6bit(block + 4, j);
    out.sub_scale = {pair.scale, pair.scale};
    out.sub_min = {pair.min, pair.min};
    out.d = f16_at(block);
    out.m = -f16_at(block + 2);
}

void decode_q5_k(const std::byte* block, std::size_t j, Block32& out) noexcept {  // FMT-12
    const std::byte* high = block + 16;                // d, dmin, scales 4..15, high bits 16..47
    const std::byte* codes = block + 48 + j / 2 * 32;  // codes 48..175
    const auto shift = static_cast<unsigned>(4 * (j % 2));
    for (std::size_t i = 0; i < kBlock; ++i) {
        const unsigned low = (byte_at(codes, i) >> shift) & 15U;
        out.q[i] = static_cast<std::int8_t>(low | (((byte_at(high, i) >> j) & 1U) << 4));
    }
    const ScaleMin pair = scale_min_6bit(block + 4, j);
    out.sub_scale = {pair.scale, pair.scale};
    out.sub_min = {pair.min, pair.min};
    out.d = f16_at(block);
    out.m = -f16_at(block + 2);
}

void decode_q6_k(const std::byte* block, std::size_t j, Block32& out) noexcept {  // FMT-13
    const std::size_t quarter = j % 4;
    const std::byte* low = block + j / 4 * 64 + quarter % 2 * 32;  // low bits 0..127
    const std::byte* high = block + 128 + j / 4 * 32;              // high bits 128..191
    const auto low_shift = static_cast<unsigned>(4 * (quarter / 2));
    const auto high_shift = static_cast<unsigned>(2 * quarter);
    for (std::size_t i = 0; i < kBlock; ++i) {
        const unsigned code =
            ((byte_at(low, i) >> low_shift) & 15U) | (((byte_at(high, i) >> high_shift) & 3U) << 4);
        out.q[i] = static_cast<std::int8_t>(static_cast<int>(code) - 32);
    }
    for (std::size_t half = 0; half < 2; ++half) {  // scales 192..207, signed
        out.sub_scale[half] = static_cast<std::int8_t>(byte_at(block, 192 + 2 * j + half));
    }
    out.d = f16_at(block + 208);
}

void decode_iq4_xs(const std::byte* block, std::size_t j, Block32& out) noexcept {  // FMT-15
    const std::byte* codes = block + 8 + j * 16;  // d, high scales 2..3, low scales 4..7, codes
    for (std::size_t i = 0; i < 16; ++i) {
        out.q[i] = kIq4Table[byte_at(codes, i) & 15U];
        out.q[i + 16] = kIq4Table[byte_at(codes, i) >> 4];
    }
    const unsigned low = (byte_at(block, 4 + j / 2) >> (4 * (j % 2))) & 15U;
    const unsigned high = (static_cast<unsigned>(u16_at(block + 2)) >> (2 * j)) & 3U;
    const auto scale = static_cast<std::int16_t>(static_cast<int>(low | (high << 4)) - 32);
    out.sub_scale = {scale, scale};
    out.d = f16_at(block);
}

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Weight formats: the tables, the formats with blocks of 32, and whole rows (spec FMT).
#include "exact/formats.h"

#include <bit>
#include <limits>

#include "base/error.h"
#include "exact/formats_blocks.h"

namespace etalon::exact {

namespace {

constexpr int kNoScale = -1;

/// What a format needs beyond FormatInfo: where its binary16 scales lie in a block.
struct ScaleOffsets {
    int d;
    int m;
};

constexpr std::array<FormatInfo, kFormatCount> kInfo{{
    {"f32", FormatKind::floating, 1, 4},
    {"f16", FormatKind::floating, 1, 2},
    {"bf16", FormatKind::floating, 1, 2},
    {"q4_0", FormatKind::blocked, 32, 18},
    {"q4_1", FormatKind::blocked, 32, 20},
    {"q5_0", FormatKind::blocked, 32, 22},
    {"q5_1", FormatKind::blocked, 32, 24},
    {"q8_0", FormatKind::blocked, 32, 34},
    {"q2_k", FormatKind::blocked, 256, 84},
    {"q3_k", FormatKind::blocked, 256, 110},
    {"q4_k", FormatKind::blocked, 256, 144},
    {"q5_k", FormatKind::blocked, 256, 176},
    {"q6_k", FormatKind::blocked, 256, 210},
    {"iq4_nl", FormatKind::blocked, 32, 18},
    {"iq4_xs", FormatKind::blocked, 256, 136},
    {"e8", FormatKind::row_scaled, 1, 1},
    {"e4", FormatKind::row_scaled, 32, 17},
}};

constexpr std::array<ScaleOffsets, kFormatCount> kScaleOffsets{{
    {kNoScale, kNoScale},  // f32
    {kNoScale, kNoScale},  // f16
    {kNoScale, kNoScale},  // bf16
    {0, kNoScale},         // q4_0
    {0, 2},                // q4_1
    {0, kNoScale},         // q5_0
    {0, 2},                // q5_1
    {0, kNoScale},         // q8_0
    {80, 82},              // q2_k
    {108, kNoScale},       // q3_k
    {0, 2},                // q4_k
    {0, 2},                // q5_k
    {208, kNoScale},       // q6_k
    {0, kNoScale},         // iq4_nl
    {0, kNoScale},         // iq4_xs
    {kNoScale, kNoScale},  // e8
    {kNoScale, kNoScale},  // e4
}};

std::size_t index_of(Format format) noexcept {
    const auto index = static_cast<std::size_t>(format);
    ETALON_ASSERT(index < kInfo.size());
    return index;
}

std::uint32_t u32_at(const std::byte* p) noexcept {
    return static_cast<std::uint32_t>(u16_at(p)) |
           (static_cast<std::uint32_t>(u16_at(p + 2)) << 16);
}

/// 16 bytes of codes: low nibbles are elements 0..15, high nibbles 16..31; `offset` is added.
void decode_nibbles(const std::byte* codes, int offset, Block32& out) noexcept {
    for (std::size_t i = 0; i < 16; ++i) {
        const auto code = static_cast<int>(byte_at(codes, i));
        out.q[i] = static_cast<std::int8_t>((code & 15) + offset);
        out.q[i + 16] = static_cast<std::int8_t>((code >> 4) + offset);
    }
}

/// The fifth bit of element i is bit i of the word at `high`.
void add_fifth_bits(const std::byte* high, Block32& out) noexcept {
    const std::uint32_t bits = u32_at(high);
    for (std::size_t i = 0; i < kBlock; ++i) {
        out.q[i] = static_cast<std::int8_t>(out.q[i] + (((bits >> i) & 1U) != 0 ? 16 : 0));
    }
}

void decode_simple(Format format, const std::byte* block, Block32& out) noexcept {
    out.d = f16_at(block);
    switch (format) {
        case Format::q4_0:  // FMT-4
            return decode_nibbles(block + 2, -8, out);
        case Format::q4_1:  // FMT-5
            out.m = f16_at(block + 2);
            out.sub_min = {1, 1};
            return decode_nibbles(block + 4, 0, out);
        case Format::q5_0:  // FMT-6
            decode_nibbles(block + 6, -16, out);
            return add_fifth_bits(block + 2, out);
        case Format::q5_1:  // FMT-7
            out.m = f16_at(block + 2);
            out.sub_min = {1, 1};
            decode_nibbles(block + 8, 0, out);
            return add_fifth_bits(block + 4, out);
        case Format::q8_0:  // FMT-8
            for (std::size_t i = 0; i < kBlock; ++i) {
                out.q[i] = static_cast<std::int8_t>(byte_at(block + 2, i));
            }
            return;
        case Format::iq4_nl:  // FMT-14
            for (std::size_t i = 0; i < 16; ++i) {
                out.q[i] = kIq4Table[byte_at(block + 2, i) & 15U];
                out.q[i + 16] = kIq4Table[byte_at(block + 2, i) >> 4];
            }
            return;
        default:
            ETALON_ASSERT(false);
    }
}

float floating_at(Format format, const std::byte* row, std::size_t i) noexcept {
    if (format == Format::f32) return std::bit_cast<float>(u32_at(row + 4 * i));  // FMT-3
    if (format == Format::f16) return float_from_f16(u16_at(row + 2 * i));
    return float_from_bf16(u16_at(row + 2 * i));
}

/// True when no word has all bits of `exponent` set. Without a branch, so that it vectorises.
template <typename Word>
bool words_are_finite(const std::byte* p, std::size_t count, std::size_t stride,
                      Word exponent) noexcept {
    unsigned found = 0;
    for (std::size_t i = 0; i < count; ++i) {
        Word word = 0;
        std::memcpy(&word, p + i * stride, sizeof(Word));
        found |= static_cast<unsigned>((word & exponent) == exponent);
    }
    return found == 0;
}

constexpr std::uint16_t kF16Exponent = 0x7C00;
constexpr std::uint16_t kBf16Exponent = 0x7F80;
constexpr std::uint32_t kF32Exponent = 0x7F800000;

}  // namespace

const std::array<std::int8_t, 16> kIq4Table{-127, -104, -83, -65, -49, -35, -22, -10,
                                            1,    13,   25,  38,  53,  69,  89,  113};

const FormatInfo& format_info(Format format) {
    return kInfo[index_of(format)];
}

std::optional<Format> format_from_name(std::string_view name) {
    for (std::size_t i = 0; i < kInfo.size(); ++i) {
        if (kInfo[i].name == name) return static_cast<Format>(i);
    }
    return std::nullopt;
}

Block32 decode_block32(Format format, std::span<const std::byte> row, std::size_t b) {
    const FormatInfo& info = format_info(format);
    ETALON_ASSERT(info.kind == FormatKind::blocked);
    const auto parts = static_cast<std::size_t>(info.block_elements / kBlock);
    const std::size_t offset = b / parts * static_cast<std::size_t>(info.block_bytes);
    ETALON_ASSERT(offset + static_cast<std::size_t>(info.block_bytes) <= row.size());
    const std::byte* block = row.data() + offset;
    Block32 out;
    out.sub_scale = {1, 1};
    out.sub_min = {0, 0};
    out.m = 0.0F;
    switch (format) {
        case Format::q2_k:
            decode_q2_k(block, b % parts, out);
            break;
        case Format::q3_k:
            decode_q3_k(block, b % parts, out);
            break;
        case Format::q4_k:
            decode_q4_k(block, b % parts, out);
            break;
        case Format::q5_k:
            decode_q5_k(block, b % parts, out);
            break;
        case Format::q6_k:
            decode_q6_k(block, b % parts, out);
            break;
        case Format::iq4_xs:
            decode_iq4_xs(block, b % parts, out);
            break;
        default:
            decode_simple(format, block, out);
    }
    return out;
}

void dequantize_row(Format format, std::span<const std::byte> row, std::span<float> out) {
    const FormatInfo& info = format_info(format);
    ETALON_ASSERT(info.kind != FormatKind::row_scaled);
    const auto bytes = row_bytes(format, out.size());
    ETALON_ASSERT(bytes.has_value() && *bytes <= row.size());
    if (info.kind == FormatKind::floating) {
        for (std::size_t i = 0; i < out.size(); ++i)
            out[i] = floating_at(format, row.data(), i);
        return;
    }
    // NOTE: nothing is added where the format has no minimum: -0 + 0 would change the sign.
    const bool has_minimum = format_has_minimum(format);
    for (std::size_t b = 0; b < out.size() / kBlock; ++b) {
        const Block32 block = decode_block32(format, row, b);
        for (std::size_t i = 0; i < kBlock; ++i) {
            const float scale = block.d * static_cast<float>(block.sub_scale[i / 16]);
            const float product = scale * static_cast<float>(block.q[i]);
            const float minimum = block.m * static_cast<float>(block.sub_min[i / 16]);
            out[b * kBlock + i] = has_minimum ? product + minimum : product;
        }
    }
}

bool row_is_finite(Format format, std::span<const std::byte> row, std::size_t n_elements) {
    const auto bytes = row_bytes(format, n_elements);
    ETALON_ASSERT(bytes.has_value() && *bytes <= row.size());
    const FormatInfo& info = format_info(format);
    if (format == Format::f32) return words_are_finite(row.data(), n_elements, 4, kF32Exponent);
    if (format == Format::f16) return words_are_finite(row.data(), n_elements, 2, kF16Exponent);
    if (format == Format::bf16) return words_are_finite(row.data(), n_elements, 2, kBf16Exponent);
    const auto block_bytes = static_cast<std::size_t>(info.block_bytes);
    const std::size_t blocks = n_elements / static_cast<std::size_t>(info.block_elements);
    const ScaleOffsets offsets = kScaleOffsets[index_of(format)];
    if (!words_are_finite(row.data() + offsets.d, blocks, block_bytes, kF16Exponent)) return false;
    return offsets.m == kNoScale ||
           words_are_finite(row.data() + offsets.m, blocks, block_bytes, kF16Exponent);
}

std::optional<std::size_t> row_bytes(Format format, std::size_t n_elements) {
    const FormatInfo& info = format_info(format);
    const auto block_elements = static_cast<std::size_t>(info.block_elements);
    const auto block_bytes = static_cast<std::size_t>(info.block_bytes);
    if (n_elements % block_elements != 0) return std::nullopt;
    const std::size_t blocks = n_elements / block_elements;
    if (blocks > std::numeric_limits<std::size_t>::max() / block_bytes) return std::nullopt;
    return blocks * block_bytes;
}

float float_from_f16(std::uint16_t bits) noexcept {  // FMT-1
    const std::uint32_t sign = (bits & 0x8000U) << 16;
    const std::uint32_t exponent = (bits >> 10) & 31U;
    const std::uint32_t fraction = bits & 0x3FFU;
    if (exponent == 0) {  // zero and subnormals: fraction * 2^-24 is exact in binary32
        const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
        return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
    }
    const std::uint32_t wide = exponent == 31 ? 255 : exponent + 112;
    return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

float float_from_bf16(std::uint16_t bits) noexcept {  // FMT-2
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace etalon::exact

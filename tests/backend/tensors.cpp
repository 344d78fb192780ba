// SPDX-License-Identifier: Apache-2.0
// Random weights: bytes are random, scales are forced to be finite, as the readers of files demand.
#include "backend/tensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace etalon::backend::conformance {

namespace {

using exact::Format;
using exact::FormatKind;

constexpr std::size_t kTileRows = 16;  // src/weights/layouts.md

/// Offsets of the f16 fields of a block; -1: none (FMT-4 to FMT-15).
std::array<int, 2> scale_offsets(Format format) {
    switch (format) {
        case Format::q4_1:
        case Format::q5_1:
        case Format::q4_k:
        case Format::q5_k:
            return {0, 2};
        case Format::q2_k:
            return {80, 82};
        case Format::q3_k:
            return {108, -1};
        case Format::q6_k:
            return {208, -1};
        default:
            return {0, -1};
    }
}

/// First byte and number of bytes of the sub-scales of a block; 0 where it has none.
std::pair<std::size_t, std::size_t> sub_scale_bytes(Format format) {
    switch (format) {
        case Format::q2_k:
            return {0, 16};
        case Format::q3_k:
            return {96, 12};
        case Format::q4_k:
        case Format::q5_k:
            return {4, 12};
        case Format::q6_k:
            return {192, 16};
        case Format::iq4_xs:
            return {2, 6};
        default:
            return {0, 0};
    }
}

/// The f16 with which codes and sub-scales give weights below 2^-4.
std::uint16_t model_f16(Format format) {
    switch (format) {
        case Format::q4_k:
        case Format::q5_k:
            return 0x0200;  // 2^-15: times 63 * 31
        case Format::q6_k:
        case Format::iq4_xs:
            return 0x0100;  // 2^-16: times 128 * 32
        case Format::q2_k:
            return 0x1400;  // 2^-10: times 15 * 3
        case Format::q3_k:
        case Format::q8_0:
        case Format::iq4_nl:
            return 0x1000;  // 2^-11: times 127
        default:
            return 0x1C00;  // 2^-8: times 16
    }
}

/// A finite f16: magnitudes from 2^-11 to 2^-3, one of the ends of the format, or a small one.
std::uint16_t random_f16(Random& random, Format format, Weights kind) {
    constexpr std::array<std::uint16_t, 8> kEnds{0x0000, 0x8000, 0x0001, 0x83FF,
                                                 0x0400, 0x7BFF, 0xFBFF, 0x3C00};
    if (kind == Weights::extreme) return kEnds[static_cast<std::size_t>(random.below(8))];
    if (kind == Weights::model) return model_f16(format);
    const auto exponent = static_cast<std::uint16_t>(4 + random.below(9));
    return static_cast<std::uint16_t>((random.next() & 0x83FFU) | exponent << 10);
}

float random_scale(Random& random, Weights kind) {  // FMT-16: finite and not negative
    constexpr std::array<float, 6> kEnds{0.0F, 0x1p-149F, 0x1p-126F, 1.0F, 1e30F, 0x1.fffffep127F};
    if (kind == Weights::extreme) return kEnds[static_cast<std::size_t>(random.below(6))];
    // The rotation of the input is not normalised (ROT-3).
    if (kind == Weights::model) return (random.unit() + 1.5F) * 0x1p-16F;
    return (random.unit() + 1.5F) * 0x1p-9F;
}

/// int8 codes of row `row` of an E8 tensor: -128 is none.
std::byte random_code(Random& random, std::size_t row, Weights kind) {
    constexpr std::array<int, 3> kEnds{-127, 127, 0};
    int code = random.below(255) - 127;
    if (kind == Weights::extreme && row % 4 < 2) code = kEnds[row % 4];
    if (kind == Weights::extreme && row % 4 == 2)
        code = kEnds[static_cast<std::size_t>(random.below(3))];
    return static_cast<std::byte>(code);
}

void fill_floating(Random& random, Format format, Weights kind, std::span<std::byte> data) {
    const std::size_t size = format == Format::f32 ? 4 : 2;
    const Fill fill = kind == Weights::extreme ? Fill::bits : Fill::usual;
    const auto n = static_cast<int>(data.size() / size);
    std::vector<float> floats = random_floats(random, 1, n, fill);
    for (float& value : floats) {
        if (kind == Weights::model) value = random.unit() * 0x1p-4F;
    }
    for (std::size_t i = 0; i < floats.size(); ++i) {
        const auto bits = std::bit_cast<std::uint32_t>(floats[i]);
        const auto upper = static_cast<std::uint16_t>(bits >> 16);
        std::uint16_t half = random_f16(random, format, kind);
        if (kind == Weights::model) half = static_cast<std::uint16_t>(random.next() & 0xABFFU);
        const void* from = format == Format::f32   ? static_cast<const void*>(&bits)
                           : format == Format::f16 ? static_cast<const void*>(&half)
                                                   : static_cast<const void*>(&upper);
        std::memcpy(data.data() + i * size, from, size);
    }
}

/// All codes of a block at one end and all sub-scales at one, or all but a few.
void fill_ends(Random& random, Format format, std::span<std::byte> block) {
    constexpr std::array<std::uint8_t, 8> kEnds{0x00, 0xFF, 0x80, 0x7F, 0x0F, 0xF0, 0x88, 0x3F};
    const auto end = [&] { return std::byte{kEnds[static_cast<std::size_t>(random.below(8))]}; };
    const auto [first, n] = sub_scale_bytes(format);
    std::fill(block.begin(), block.end(), end());
    std::ranges::fill(block.subspan(first, n), end());
    if (random.below(2) == 0) return;
    for (int i = 0; i < 3; ++i) {
        block[static_cast<std::size_t>(random.below(static_cast<int>(block.size())))] =
            static_cast<std::byte>(random.next() & 0xFFU);
    }
}

void fill_blocks(Random& random, Format format, Weights kind, std::span<std::byte> data) {
    const auto block_bytes = static_cast<std::size_t>(exact::format_info(format).block_bytes);
    for (std::size_t begin = 0; begin < data.size(); begin += block_bytes) {
        const auto block = data.subspan(begin, block_bytes);
        if (kind == Weights::extreme) {
            fill_ends(random, format, block);
        } else {
            for (std::byte& byte : block)
                byte = static_cast<std::byte>(random.next() & 0xFFU);
        }
        for (const int offset : scale_offsets(format)) {
            if (offset < 0) continue;
            const std::uint16_t scale = random_f16(random, format, kind);
            std::memcpy(block.data() + offset, &scale, sizeof(scale));
        }
    }
}

std::unique_ptr<OwnedTensor> make_tensor(Format format, int n_rows, int n_cols, std::size_t bytes,
                                         std::size_t offset) {
    auto owned = std::make_unique<OwnedTensor>();
    owned->data.resize(offset + bytes);
    owned->tensor = {"random", format, n_rows, n_cols, {}, {}};
    owned->tensor.data = std::span<const std::byte>(owned->data).subspan(offset);
    return owned;
}

std::unique_ptr<OwnedTensor> random_gguf(Random& random, Format format, int n_rows, int n_cols,
                                         Weights kind) {
    const auto row_bytes = exact::row_bytes(format, static_cast<std::size_t>(n_cols));
    ETALON_ASSERT(row_bytes.has_value());
    const bool floating = exact::format_info(format).kind == FormatKind::floating;
    const std::size_t offset = floating ? 2 : 8;
    auto owned =
        make_tensor(format, n_rows, n_cols, static_cast<std::size_t>(n_rows) * *row_bytes, offset);
    const auto data = std::span(owned->data).subspan(offset);
    if (floating) {
        fill_floating(random, format, kind, data);
    } else {
        fill_blocks(random, format, kind, data);
    }
    for (std::size_t row = 0; row < data.size(); row += *row_bytes) {
        ETALON_ASSERT(exact::row_is_finite(format, data.subspan(row, *row_bytes),
                                           static_cast<std::size_t>(n_cols)));
    }
    return owned;
}

/// Index and code of each of 16 columns of row `row` of an E4 tensor. Ends: -127 and 126.
struct E4Codes {
    unsigned index;
    std::array<unsigned, 16> codes;
};
E4Codes random_e4(Random& random, std::size_t row, Weights kind) {
    constexpr std::array<unsigned, 3> kEnds{15, 0, 8};
    E4Codes out{static_cast<unsigned>(random.below(16)), {}};
    if (kind == Weights::extreme && row % 4 < 3) {
        out.index = kEnds[row % 4 == 2 ? static_cast<std::size_t>(random.below(3)) : row % 4];
        return out;  // the first code is the largest of its table row
    }
    for (unsigned& code : out.codes)
        code = static_cast<unsigned>(random.below(16));
    return out;
}

/// src/weights/layouts.md: [groups of 4 rows][K / 32][4 rows] of 16 bytes and one index byte.
void fill_e4(Random& random, Weights kind, OwnedTensor& owned) {
    const auto rows = static_cast<std::size_t>(owned.tensor.n_rows);
    const std::size_t n_lines = static_cast<std::size_t>(owned.tensor.n_cols) / 32;
    for (std::size_t i = 0; i < owned.indices.size(); ++i) {
        const std::size_t row = i / 4 / n_lines * 4 + i % 4;
        if (row >= rows) continue;  // zero
        const E4Codes low = random_e4(random, row, kind);
        const E4Codes high = random_e4(random, row, kind);
        owned.indices[i] = static_cast<std::byte>(low.index | high.index << 4);
        for (std::size_t j = 0; j < 16; ++j)
            owned.data[i * 16 + j] = static_cast<std::byte>(low.codes[j] | high.codes[j] << 4);
    }
    owned.tensor.indices = owned.indices;
}

void add_scales(Random& random, Weights kind, OwnedTensor& owned) {
    owned.scales.resize(static_cast<std::size_t>(owned.tensor.n_rows));
    for (float& scale : owned.scales)
        scale = random_scale(random, kind);
    owned.tensor.scales = std::as_bytes(std::span(owned.scales));
}

}  // namespace

std::unique_ptr<OwnedTensor> random_matrix(Random& random, Format format, int n_rows, int n_cols,
                                           Weights kind) {
    if (exact::format_info(format).kind != FormatKind::row_scaled)
        return random_gguf(random, format, n_rows, n_cols, kind);
    const auto k = static_cast<std::size_t>(n_cols);
    const auto rows = static_cast<std::size_t>(n_rows);
    const std::size_t padded_rows = (rows + kTileRows - 1) / kTileRows * kTileRows;
    if (format == Format::e4) {
        ETALON_ASSERT(n_cols % 32 == 0);
        auto owned = make_tensor(format, n_rows, n_cols, padded_rows * k / 2, 0);
        owned->indices.resize(padded_rows * k / 32);
        fill_e4(random, kind, *owned);
        add_scales(random, kind, *owned);
        return owned;
    }
    ETALON_ASSERT(n_cols % 4 == 0);
    auto owned = make_tensor(format, n_rows, n_cols, padded_rows * k, 0);
    for (std::size_t i = 0; i < owned->data.size(); ++i) {
        const std::size_t line = i / 64;
        const std::size_t row = line / (k / 4) * kTileRows + i % 64 / 4;
        if (row < rows) owned->data[i] = random_code(random, row, kind);  // else zero
    }
    add_scales(random, kind, *owned);
    return owned;
}

std::unique_ptr<OwnedTensor> random_embedding(Random& random, Format format, int n_rows, int n_cols,
                                              Weights kind) {
    ETALON_ASSERT(format != Format::e4);
    if (format != Format::e8) return random_gguf(random, format, n_rows, n_cols, kind);
    auto owned =
        make_tensor(format, n_rows, n_cols,
                    static_cast<std::size_t>(n_rows) * static_cast<std::size_t>(n_cols), 0);
    for (std::size_t i = 0; i < owned->data.size(); ++i)
        owned->data[i] = random_code(random, i / static_cast<std::size_t>(n_cols), kind);
    add_scales(random, kind, *owned);
    return owned;
}

std::vector<Format> linear_formats() {
    std::vector<Format> formats;
    for (int i = 0; i < exact::kFormatCount; ++i)
        formats.push_back(static_cast<Format>(i));
    return formats;
}

std::vector<Format> embedding_formats() {
    std::vector<Format> formats = linear_formats();
    std::erase(formats, Format::e4);
    return formats;
}

}  // namespace etalon::backend::conformance

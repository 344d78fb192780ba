// SPDX-License-Identifier: Apache-2.0
// GGUF weights to records, through the decoders of src/exact. On cards cuda/sm80/blocked_layout.cu
// makes the same bytes.
#include "backend/cpu/linear_layout.h"

#include <bit>
#include <cstring>

#include "base/error.h"

namespace etalon::backend::cpu {

namespace {

using exact::Block32;
using exact::kBlock;

/// The binary16 of a float that came from one.
std::uint16_t f16_bits(float value) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t sign = (bits >> 16) & 0x8000U;
    const std::uint32_t exponent = (bits >> 23) & 0xFFU;
    std::uint32_t rest = 0;
    if (exponent >= 113) {
        rest = ((exponent - 112) << 10) | ((bits >> 13) & 0x3FFU);
    } else {  // a multiple of 2^-24 below 2^-14
        rest = static_cast<std::uint32_t>(std::bit_cast<float>(bits & 0x7FFFFFFFU) * 0x1p24F);
    }
    return static_cast<std::uint16_t>(sign | rest);
}

void store_f16(std::byte* p, std::size_t row, float value) noexcept {
    const std::uint16_t bits = f16_bits(value);
    std::memcpy(p + 2 * row, &bits, sizeof(bits));
}

/// The inverse of kIq4Table.
unsigned table_index(int value) noexcept {
    for (unsigned i = 0; i < exact::kIq4Table.size(); ++i) {
        if (exact::kIq4Table[i] == value) return i;
    }
    ETALON_ASSERT(false);
    return 0;
}

void store_codes(const BlockedForm& form, int eight_offset, std::size_t width, std::size_t row,
                 const Block32& block, std::byte* codes) noexcept {
    for (std::size_t k = 0; k < kBlock; ++k) {
        const std::size_t quad = k / 4;
        const int q = block.q[k];
        if (form.code == Code::nibble || form.code == Code::table) {
            const unsigned code =
                form.code == Code::table ? table_index(q) : static_cast<unsigned>(q + form.offset);
            std::byte& pair = codes[(quad / 2 * width + row) * 4 + k % 4];
            pair |= static_cast<std::byte>(quad % 2 == 0 ? code : code << 4);
        } else {
            const int offset = form.code == Code::eight ? eight_offset : form.offset;
            codes[(quad * width + row) * 4 + k % 4] = static_cast<std::byte>(q + offset);
        }
    }
}

void store_block(const BlockedForm& form, const RecordLayout& layout, int eight_offset,
                 std::size_t width, std::size_t row, const Block32& block,
                 std::byte* out) noexcept {
    const std::size_t n_subs = layout.sub_mins / width;
    for (std::size_t half = 0; half < n_subs; ++half) {
        ETALON_ASSERT(form.scales == Scales::halves || block.sub_scale[0] == block.sub_scale[1]);
        out[half * width + row] = static_cast<std::byte>(block.sub_scale[half]);
        if (form.has_minimum) {
            out[layout.sub_mins + half * width + row] = static_cast<std::byte>(block.sub_min[half]);
        }
    }
    store_codes(form, eight_offset, width, row, block, out + layout.codes);
}

}  // namespace

std::size_t repacked_bytes(exact::Format format, std::size_t width, std::size_t n_rows,
                           std::size_t n_cols) noexcept {
    const RecordLayout layout = record_layout(blocked_form(format), width);
    return (n_rows + width - 1) / width * (n_cols / (layout.n_blocks * kBlock)) *
           layout.record_bytes;
}

void repack_tile(exact::Format format, std::size_t width, int eight_offset, std::size_t n_cols,
                 std::span<const std::byte> rows, std::size_t row_bytes, std::byte* out) {
    const BlockedForm form = blocked_form(format);
    const RecordLayout layout = record_layout(form, width);
    const std::size_t n_records = n_cols / (layout.n_blocks * kBlock);
    const std::size_t n_rows = rows.size() / row_bytes;
    ETALON_ASSERT(n_rows >= 1 && n_rows <= width);
    std::memset(out, 0, n_records * layout.record_bytes);
    for (std::size_t row = 0; row < n_rows; ++row) {
        const auto bytes = rows.subspan(row * row_bytes, row_bytes);
        for (std::size_t r = 0; r < n_records; ++r) {
            std::byte* record = out + r * layout.record_bytes;
            for (std::size_t b = 0; b < layout.n_blocks; ++b) {
                const Block32 block = exact::decode_block32(format, bytes, r * layout.n_blocks + b);
                store_f16(record, row, block.d);
                if (form.has_minimum) store_f16(record + layout.m, row, block.m);
                store_block(form, layout, eight_offset, width, row, block,
                            record + layout.blocks + b * layout.block_bytes);
            }
        }
    }
}

}  // namespace etalon::backend::cpu

// SPDX-License-Identifier: Apache-2.0
// Private to formats*.cpp: reading little-endian fields of stored blocks, and the decoders of the
// 256-element formats.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "exact/formats.h"

namespace etalon::exact {

inline unsigned byte_at(const std::byte* p, std::size_t i) noexcept {
    return std::to_integer<unsigned>(p[i]);
}

inline std::uint16_t u16_at(const std::byte* p) noexcept {
    return static_cast<std::uint16_t>(byte_at(p, 0) | (byte_at(p, 1) << 8));
}

inline float f16_at(const std::byte* p) noexcept {
    return float_from_f16(u16_at(p));
}

/// `block` points to a stored block of 256 elements; `j` in [0, 8) names 32 of them.
void decode_q2_k(const std::byte* block, std::size_t j, Block32& out) noexcept;
void decode_q3_k(const std::byte* block, std::size_t j, Block32& out) noexcept;
void decode_q4_k(const std::byte* block, std::size_t j, Block32& out) noexcept;
void decode_q5_k(const std::byte* block, std::size_t j, Block32& out) noexcept;
void decode_q6_k(const std::byte* block, std::size_t j, Block32& out) noexcept;
void decode_iq4_xs(const std::byte* block, std::size_t j, Block32& out) noexcept;

}  // namespace etalon::exact

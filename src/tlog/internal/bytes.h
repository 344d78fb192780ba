// SPDX-License-Identifier: Apache-2.0
// Numbers and lines as the formats of logs write them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace etalon::tlog {

/// The low `n_bytes` bytes of `value`, big-endian.
std::string big_endian(std::uint64_t value, std::size_t n_bytes);
/// At most 8 bytes.
std::uint64_t from_big_endian(std::string_view bytes) noexcept;

/// Takes a line off `text` and returns it without its end. Errors: invalid (no line ends in it).
std::string_view take_line(std::string_view& text);

}  // namespace etalon::tlog

// SPDX-License-Identifier: Apache-2.0
// Numbers and lines as the formats of logs write them.
#include "tlog/internal/bytes.h"

#include "base/error.h"

namespace etalon::tlog {

std::string big_endian(std::uint64_t value, std::size_t n_bytes) {
    std::string bytes;
    for (std::size_t i = n_bytes; i-- > 0;)
        bytes += static_cast<char>(value >> (8 * i) & 255);
    return bytes;
}

std::uint64_t from_big_endian(std::string_view bytes) noexcept {
    std::uint64_t value = 0;
    for (const char c : bytes)
        value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

std::string_view take_line(std::string_view& text) {
    const std::size_t end = text.find('\n');
    if (end == text.npos) throw Error(ExitCode::invalid, "a line of it does not end");
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end + 1);
    return line;
}

}  // namespace etalon::tlog

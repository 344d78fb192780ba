// SPDX-License-Identifier: Apache-2.0
// The error type, assertions and text made safe for a terminal.
#include "base/error.h"

#include <cstdio>
#include <cstdlib>
#include <fmt/format.h>

#include "base/utf8.h"

namespace etalon {

Error::Error(ExitCode code, std::string message, std::string hint)
    : code_(code), message_(std::move(message)), hint_(std::move(hint)) {}

void assertion_failed(const char* condition, const char* file, int line) noexcept {
    std::fprintf(stderr, "etalon: assertion failed: %s (%s:%d)\n", condition, file, line);
    std::abort();
}

std::string printable(std::string_view text, std::size_t bytes_max) {
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
        if (out.size() >= bytes_max) return out + "...";
        const auto byte = static_cast<unsigned char>(text[i]);
        const std::size_t length = utf8_length(text, i);
        const bool c1_control =
            length == 2 && byte == 0xC2 && static_cast<unsigned char>(text[i + 1]) < 0xA0;
        if (length == 0 || byte < 0x20 || byte == 0x7F || c1_control) {
            out += fmt::format("\\x{:02x}", byte);
            ++i;
        } else {
            out += text.substr(i, length);
            i += length;
        }
    }
    return out;
}

}  // namespace etalon

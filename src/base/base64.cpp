// SPDX-License-Identifier: Apache-2.0
// Base64 (RFC 4648 section 4), in its one canonical form.
#include "base/base64.h"

#include <algorithm>
#include <array>
#include <cstdint>

namespace etalon {

namespace {

constexpr std::string_view kDigits =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t kNoDigit = 255;

constexpr std::array<std::uint8_t, 256> make_values() {
    std::array<std::uint8_t, 256> values{};
    for (std::uint8_t& value : values)
        value = kNoDigit;
    for (std::size_t i = 0; i < kDigits.size(); ++i)
        values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::uint8_t>(i);
    return values;
}
constexpr auto kValues = make_values();

}  // namespace

std::string to_base64(std::string_view bytes) {
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k)
            group = group << 8 | (k < n ? static_cast<unsigned char>(bytes[i + k]) : 0U);
        for (std::size_t k = 0; k < 4; ++k)
            out += k <= n ? kDigits[group >> (18 - 6 * k) & 63] : '=';
    }
    return out;
}

std::optional<std::string> from_base64(std::string_view text) {
    if (text.size() % 4 != 0) return std::nullopt;
    std::string out;
    out.reserve(text.size() / 4 * 3);
    for (std::size_t i = 0; i < text.size(); i += 4) {
        std::size_t n = 4;
        if (i + 4 == text.size()) {
            while (n > 2 && text[i + n - 1] == '=')
                --n;
        }
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 4; ++k) {
            const auto value = k < n ? kValues[static_cast<unsigned char>(text[i + k])] : 0;
            if (value == kNoDigit) return std::nullopt;
            group = group << 6 | value;
        }
        // Of a short group only n - 1 bytes count; bits behind them would be a second spelling.
        if ((group & ((1U << (8 * (4 - n))) - 1)) != 0) return std::nullopt;
        for (std::size_t k = 0; k + 1 < n; ++k)
            out += static_cast<char>(group >> (16 - 8 * k) & 255);
    }
    return out;
}

}  // namespace etalon

// SPDX-License-Identifier: Apache-2.0
// The result of a command on stdout.
#include "cli/output.h"

#include <array>
#include <cstdio>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace etalon::cli {

namespace {

// Values of one field, a chat template for instance, are cut behind this many bytes.
constexpr std::size_t kFieldBytesMax = 4000;
constexpr int kNameColumns = 18;

}  // namespace

void print(std::string_view text) {
    const std::size_t n = std::fwrite(text.data(), 1, text.size(), stdout);
    if (n != text.size() || std::fflush(stdout) != 0) {
        throw Error(ExitCode::failure, "the result cannot be written to stdout");
    }
}

void print_field(std::string_view name, std::string_view value) {
    print(fmt::format("{:<{}} {}\n", printable(name), kNameColumns,
                      printable(value, kFieldBytesMax)));
}

void print_json(const nlohmann::ordered_json& value) {
    constexpr int kIndent = 2;
    print(value.dump(kIndent, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

std::string bytes_text(std::uint64_t bytes) {
    constexpr std::array<const char*, 5> kUnits{"KiB", "MiB", "GiB", "TiB", "PiB"};
    if (bytes < 1024) return fmt::format("{} bytes", bytes);
    auto value = static_cast<double>(bytes) / 1024.0;
    std::size_t unit = 0;
    while (value >= 1024.0 && unit + 1 < kUnits.size()) {
        value /= 1024.0;
        ++unit;
    }
    return fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string count_text(std::uint64_t count) {
    std::string digits = fmt::format("{}", count);
    for (std::size_t i = digits.size(); i > 3;) {
        i -= 3;
        digits.insert(i, 1, ',');
    }
    return digits;
}

}  // namespace etalon::cli

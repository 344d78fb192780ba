// SPDX-License-Identifier: Apache-2.0
// The result of a command on stdout: plain lines or JSON.
//   print_field("context", "2048");      ->  "context            2048\n"
//   print_json({{"context", 2048}});
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace etalon::cli {

/// Writes all of `text`. Errors: failure (stdout cannot be written). A closed pipe ends the process
/// by SIGPIPE before that, as with any filter.
void print(std::string_view text);

/// One "name   value" line; `value` is made safe for a terminal and may be long.
void print_field(std::string_view name, std::string_view value);

/// Indented JSON and a line end; text that is not UTF-8 gets U+FFFD in its place.
void print_json(const nlohmann::ordered_json& value);

/// "88.2 MiB", "512 bytes".
std::string bytes_text(std::uint64_t bytes);

/// "134,515,008".
std::string count_text(std::uint64_t count);

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// JSON from a file, bounded in depth; what is no JSON is refused with a short message.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace etalon::weights {

/// Errors: invalid, naming `field`, `file` and the byte where the text stops being JSON.
nlohmann::json parse_json_text(std::string_view text, std::string_view field,
                               const std::string& file);

}  // namespace etalon::weights

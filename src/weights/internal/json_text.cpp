// SPDX-License-Identifier: Apache-2.0
// JSON from a file, bounded in depth.
#include "weights/internal/json_text.h"

#include <fmt/format.h>

#include "weights/internal/contents.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

using nlohmann::json;

json parse_json_text(std::string_view text, std::string_view field, const std::string& file) {
    const auto shallow = [&](int depth, json::parse_event_t, json&) {
        if (depth > kJsonDepthMax) refuse(file, field, "is nested too deeply");
        return true;
    };
    // The parser's own messages quote what it read, however long.
    try {
        return json::parse(text.begin(), text.end(), shallow);
    } catch (const json::parse_error& error) {
        refuse(file, field, fmt::format("is no JSON at byte {}", error.byte));
    } catch (const json::exception&) {
        refuse(file, field, "holds a number out of range");
    }
}

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// From server-sent events to text.
#include "cli/chat_stream.h"

#include <nlohmann/json.hpp>

#include "base/error.h"

namespace etalon::cli {

namespace {

using nlohmann::json;

constexpr std::size_t kEventBytesMax = 1U << 20;  // a chunk of a few tokens has under a thousand

/// The value at a path of names and indices; null where the shape is another.
json at(const json& value, std::string_view name) {
    const auto found = value.is_object() ? value.find(name) : value.end();
    return found == value.end() ? json() : *found;
}

std::int64_t count_at(const json& value, std::string_view name) {
    const json count = at(value, name);
    return count.is_number_integer() ? count.get<std::int64_t>() : 0;
}

std::string text_at(const json& value, std::string_view name) {
    const json text = at(value, name);
    return text.is_string() ? text.get<std::string>() : "";
}

}  // namespace

std::string ChatStream::take(std::string_view piece) {
    rest_ += piece;
    std::string added;
    std::size_t start = 0;
    for (;;) {
        const std::size_t end = rest_.find('\n', start);
        if (end == std::string::npos) break;
        std::string_view line(rest_.data() + start, end - start);
        if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
        constexpr std::string_view kData = "data: ";
        if (line.substr(0, kData.size()) == kData) added += take_event(line.substr(kData.size()));
        start = end + 1;
    }
    rest_.erase(0, start);
    if (rest_.size() > kEventBytesMax) {
        throw Error(ExitCode::invalid, "an event of the answer is over 1 MiB");
    }
    text_ += added;
    return added;
}

std::string ChatStream::take_event(std::string_view data) {
    const json event = json::parse(data, nullptr, false);  // "[DONE]" is none
    if (!event.is_object()) return "";
    const json error = at(event, "error");
    if (error.is_object()) error_ = text_at(error, "message");
    const json usage = at(event, "usage");
    if (usage.is_object()) {
        n_prompt_ = count_at(usage, "prompt_tokens");
        n_answer_ = count_at(usage, "completion_tokens");
    }
    const json choices = at(event, "choices");
    if (!choices.is_array() || choices.empty()) return "";
    return text_at(at(choices.front(), "delta"), "content");
}

std::string terminal_text(std::string_view text) {
    std::string safe;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        const bool is_control = (c < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
        if (is_control) continue;
        // U+0080 to U+009F are control characters too; in UTF-8 they are C2 80 to C2 9F.
        const bool is_long_control =
            c == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
        if (is_long_control) {
            ++i;
            continue;
        }
        safe += text[i];
    }
    return safe;
}

}  // namespace etalon::cli

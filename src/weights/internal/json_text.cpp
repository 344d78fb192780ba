// SPDX-License-Identifier: Apache-2.0
// JSON from a file, bounded in depth, and typed access to its members.
#include "weights/internal/json_text.h"

#include <cmath>
#include <cstdint>
#include <fmt/format.h>
#include <limits>
#include <unordered_set>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

using nlohmann::json;

namespace {

float to_float(const JsonFields& fields, const char* key, const json& value) {
    // Beyond this a binary64 number has no binary32 that is near.
    constexpr double kLargest = std::numeric_limits<float>::max();
    if (!value.is_number() || !(std::abs(value.get<double>()) <= kLargest)) {
        fields.fail(key, "is no number that binary32 holds");
    }
    return static_cast<float>(value.get<double>());
}

}  // namespace

json parse_json_text(std::string_view text, std::string_view field, const std::string& file) {
    std::vector<std::unordered_set<std::string>> names;  // of the objects that are open
    const auto check = [&](int depth, json::parse_event_t event, json& value) {
        if (depth > kJsonDepthMax) refuse(file, field, "is nested too deeply");
        if (event == json::parse_event_t::object_start) names.emplace_back();
        if (event == json::parse_event_t::object_end) names.pop_back();
        if (event == json::parse_event_t::key) {
            const auto& name = value.get_ref<const std::string&>();
            if (!names.back().insert(name).second) {
                refuse(file, field, fmt::format("names {} twice", printable(name, 80)));
            }
        }
        return true;
    };
    // The parser's own messages quote what it read, however long.
    try {
        return json::parse(text.begin(), text.end(), check);
    } catch (const json::parse_error& error) {
        refuse(file, field, fmt::format("is no JSON at byte {}", error.byte));
    } catch (const json::exception&) {
        refuse(file, field, "holds a number out of range");
    }
}

JsonFields::JsonFields(const json& object, std::string prefix, const std::string& file)
    : object_(object), prefix_(std::move(prefix)), file_(file) {
    if (!object.is_object()) refuse(file, prefix_, "is no JSON object");
}

void JsonFields::fail(std::string_view key, std::string_view reason) const {
    refuse(file_, fmt::format("{}.{}", prefix_, key), reason);
}

bool JsonFields::has(const char* key) const {
    const auto found = object_.find(key);
    return found != object_.end() && !found->is_null();
}

const json& JsonFields::at(const char* key) const {
    const auto found = object_.find(key);
    if (found == object_.end()) fail(key, "is missing");
    return *found;
}

std::string JsonFields::text(const char* key) const {
    if (!at(key).is_string()) fail(key, "is no text");
    return at(key).get<std::string>();
}

int JsonFields::integer(const char* key) const {
    const json& value = at(key);
    if (!value.is_number_integer()) fail(key, "is no whole number");
    const auto number = value.get<std::int64_t>();
    const bool wraps = value.is_number_unsigned() && number < 0;
    if (wraps || number < INT32_MIN || number > INT32_MAX) fail(key, "is out of range");
    return static_cast<int>(number);
}

float JsonFields::number(const char* key) const {
    return to_float(*this, key, at(key));
}

bool JsonFields::flag(const char* key) const {
    if (!at(key).is_boolean()) fail(key, "is neither true nor false");
    return at(key).get<bool>();
}

std::vector<float> JsonFields::numbers(const char* key, std::size_t count_max) const {
    const json& list = at(key);
    if (!list.is_array() || list.size() > count_max) fail(key, "is no list of numbers");
    std::vector<float> out;
    for (const json& value : list)
        out.push_back(to_float(*this, key, value));
    return out;
}

JsonFields JsonFields::object(const char* key) const {
    return {at(key), fmt::format("{}.{}", prefix_, key), file_};
}

}  // namespace etalon::weights

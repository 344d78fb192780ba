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

/// Walks through a text and keeps nothing; refuses what is no JSON, too deep, or named twice.
class NestingCheck : public nlohmann::json_sax<json> {
  public:
    NestingCheck(std::string_view field, const std::string& file) : field_(field), file_(file) {}

    bool null() override { return true; }
    bool boolean(bool) override { return true; }
    bool number_integer(number_integer_t) override { return true; }
    bool number_unsigned(number_unsigned_t) override { return true; }
    bool number_float(number_float_t, const string_t&) override { return true; }
    bool string(string_t&) override { return true; }
    bool binary(binary_t&) override { return true; }
    bool start_object(std::size_t) override { return open(); }
    bool start_array(std::size_t) override { return open(); }
    bool end_object() override { return close(); }
    bool end_array() override { return close(); }

    bool key(string_t& name) override {
        if (!names_.back().insert(name).second) {
            refuse(file_, field_, fmt::format("names {} twice", printable(name, 80)));
        }
        return true;
    }

    // The parser's own messages quote what it read, however long.
    bool parse_error(std::size_t byte, const std::string&,
                     const nlohmann::detail::exception& error) override {
        constexpr int kNumberOutOfRange = 406;
        if (error.id == kNumberOutOfRange) refuse(file_, field_, "holds a number out of range");
        refuse(file_, field_, fmt::format("is no JSON at byte {}", byte));
    }

  private:
    bool open() {
        if (names_.size() >= kJsonDepthMax) refuse(file_, field_, "is nested too deeply");
        names_.emplace_back();
        return true;
    }
    bool close() {
        names_.pop_back();
        return true;
    }

    std::string_view field_;
    const std::string& file_;
    std::vector<std::unordered_set<std::string>> names_;  // of what is open; empty for a list
};

}  // namespace

json parse_json_text(std::string_view text, std::string_view field, const std::string& file) {
    // Twice, because the parser that calls back while it builds looks through the whole list again
    // behind each of its objects: quadratic in the tensors of a header or the shards of a
    // signature.
    NestingCheck checker(field, file);
    (void)json::sax_parse(text.begin(), text.end(), &checker);
    return json::parse(text.begin(), text.end());
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

// SPDX-License-Identifier: Apache-2.0
// Fields of a request by name, type and range.
#include "serve/fields.h"

#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "serve/api_error.h"
#include "serve/json_diagnosis.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace dom = simdjson::dom;

namespace {

/// Integers beyond this have lost digits once they are a double.
constexpr double kExactDoubleMax = 9007199254740992.0;

thread_local FieldRecorder* t_recorder = nullptr;

const char* type_name(dom::element value) {
    switch (value.type()) {
        case dom::element_type::ARRAY:
            return "an array";
        case dom::element_type::OBJECT:
            return "an object";
        case dom::element_type::STRING:
            return "a string";
        case dom::element_type::BOOL:
            return "true or false";
        case dom::element_type::NULL_VALUE:
            return "null";
        default:
            return "a number";
    }
}

[[noreturn]] void wrong_type(const std::string& where, dom::element value, const char* wanted) {
    throw field_error(where, fmt::format("{} is {}, not {}", where, type_name(value), wanted));
}

}  // namespace

JsonBody::JsonBody(std::string_view text) {
    // The parser's own memory grows with the text, which the server has limited.
    ETALON_ASSERT(text.size() <= kBodyBytesMax);
    text_ = simdjson::padded_string(text);
    if (parser_.allocate(text.size() + 1, kJsonDepthMax) != simdjson::SUCCESS) {
        throw std::bad_alloc();
    }
    if (parser_.parse(text_).get(root_) != simdjson::SUCCESS) throw diagnose_json(text);
}

dom::object JsonBody::object() const {
    dom::object object;
    if (root_.get(object) != simdjson::SUCCESS) {
        throw field_error("", "the body is not a JSON object");
    }
    return object;
}

std::int64_t integer_of(dom::element value, const std::string& where, std::int64_t low,
                        std::int64_t high) {
    std::int64_t integer = 0;
    if (value.get(integer) != simdjson::SUCCESS) {
        double number = 0.0;
        if (value.is_bool() || value.get(number) != simdjson::SUCCESS) {
            wrong_type(where, value, "an integer");
        }
        if (value.is_uint64() || number > kExactDoubleMax || number < -kExactDoubleMax) {
            throw field_error(
                where, fmt::format("{} is out of range, accepted are {} to {}", where, low, high));
        }
        if (number != std::trunc(number)) {
            throw field_error(where, fmt::format("{} is {}, not an integer", where, number));
        }
        integer = static_cast<std::int64_t>(number);
    }
    if (integer < low || integer > high) {
        throw field_error(
            where, fmt::format("{} is {}, accepted are {} to {}", where, integer, low, high));
    }
    return integer;
}

double number_of(dom::element value, const std::string& where, double low, double high) {
    double number = 0.0;
    if (value.get(number) != simdjson::SUCCESS) wrong_type(where, value, "a number");
    if (!(number >= low && number <= high)) {
        throw field_error(where,
                          fmt::format("{} is {}, accepted are {} to {}", where, number, low, high));
    }
    return number;
}

std::string_view text_of(dom::element value, const std::string& where, std::size_t bytes_max) {
    std::string_view text;
    if (value.get(text) != simdjson::SUCCESS) wrong_type(where, value, "a string");
    if (text.size() > bytes_max) {
        throw field_error(where, fmt::format("{} has {} bytes, at most {} are accepted", where,
                                             text.size(), bytes_max));
    }
    return text;
}

Fields::Fields(dom::object object, std::string where) : object_(object), where_(std::move(where)) {
    std::set<std::string_view> names;
    for (const auto [name, value] : object_) {
        if (!names.insert(name).second) {
            const std::string shown = path(printable(name, 64));
            throw field_error(shown, fmt::format("{} is given twice", shown));
        }
        if (names.size() > kFieldsMax) {
            throw field_error(where_,
                              fmt::format("an object has more than {} fields ({})", kFieldsMax,
                                          where_.empty() ? "the body" : where_));
        }
    }
}

FieldRecorder::FieldRecorder() {
    ETALON_ASSERT(t_recorder == nullptr);
    t_recorder = this;
}

FieldRecorder::~FieldRecorder() {
    t_recorder = nullptr;
}

void Fields::note(std::string_view name, FieldNote::Type type, double low, double high) const {
    if (t_recorder != nullptr) t_recorder->notes.push_back({path(name), type, low, high});
}

void Fields::skip(std::string_view name) {
    note(name, FieldNote::Type::ignored);
    read_.insert(std::string(name));
}

std::optional<dom::element> Fields::any(std::string_view name) {
    note(name, FieldNote::Type::any);
    return find(name);
}

std::optional<dom::element> Fields::find(std::string_view name) {
    read_.insert(std::string(name));
    dom::element value;
    if (object_.at_key(name).get(value) != simdjson::SUCCESS || value.is_null()) {
        return std::nullopt;
    }
    return value;
}

std::optional<bool> Fields::boolean(std::string_view name) {
    note(name, FieldNote::Type::boolean);
    const auto value = find(name);
    if (!value) return std::nullopt;
    bool flag = false;
    if (value->get(flag) != simdjson::SUCCESS) wrong_type(path(name), *value, "true or false");
    return flag;
}

std::optional<double> Fields::number(std::string_view name, double low, double high) {
    note(name, FieldNote::Type::number, low, high);
    const auto value = find(name);
    if (!value) return std::nullopt;
    return number_of(*value, path(name), low, high);
}

std::optional<std::int64_t> Fields::integer(std::string_view name, std::int64_t low,
                                            std::int64_t high) {
    note(name, FieldNote::Type::integer, static_cast<double>(low), static_cast<double>(high));
    const auto value = find(name);
    if (!value) return std::nullopt;
    return integer_of(*value, path(name), low, high);
}

std::optional<std::string_view> Fields::text(std::string_view name, std::size_t bytes_max) {
    note(name, FieldNote::Type::text, 0.0, static_cast<double>(bytes_max));
    const auto value = find(name);
    if (!value) return std::nullopt;
    return text_of(*value, path(name), bytes_max);
}

std::optional<dom::array> Fields::array(std::string_view name, std::size_t size_max) {
    note(name, FieldNote::Type::array, 0.0, static_cast<double>(size_max));
    const auto value = find(name);
    if (!value) return std::nullopt;
    dom::array array;
    if (value->get(array) != simdjson::SUCCESS) wrong_type(path(name), *value, "an array");
    std::size_t size = 0;  // counted: the parser's own count saturates
    for ([[maybe_unused]] const dom::element element : array)
        ++size;
    if (size > size_max) {
        throw field_error(path(name), fmt::format("{} has {} elements, at most {} are accepted",
                                                  path(name), size, size_max));
    }
    return array;
}

std::optional<Fields> Fields::object(std::string_view name) {
    note(name, FieldNote::Type::object);
    const auto value = find(name);
    if (!value) return std::nullopt;
    dom::object object;
    if (value->get(object) != simdjson::SUCCESS) wrong_type(path(name), *value, "an object");
    return Fields(object, path(name) + ".");
}

std::vector<std::string> Fields::unread() const {
    std::vector<std::string> names;
    for (const auto [name, value] : object_) {
        if (read_.find(name) == read_.end()) names.emplace_back(name);
    }
    return names;
}

}  // namespace etalon::serve

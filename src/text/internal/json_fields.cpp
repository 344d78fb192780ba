// SPDX-License-Identifier: Apache-2.0
// Checked access to JSON values.
#include "text/internal/json_fields.h"

#include <cmath>
#include <limits>

#include "base/error.h"

namespace etalon::text {

Json parse_json(std::string_view text, const std::string& file) {
    try {
        return Json::parse(text);
    } catch (const Json::exception& error) {
        throw Error(ExitCode::invalid, "not valid JSON: " + printable(error.what(), 160) + " (" +
                                           printable(file) + ")");
    }
}

void JsonField::refuse(const std::string& reason) const {
    throw Error(ExitCode::invalid, path_ + ": " + reason + " (" + printable(*file_) + ")");
}

JsonField JsonField::operator[](const std::string& key) const {
    static const Json null;
    if (!value_->is_object()) refuse("must be an object");
    const auto found = value_->find(key);
    const std::string name = printable(key, 40);
    const std::string path = path_.empty() ? name : path_ + "." + name;
    return {found == value_->end() ? null : *found, *file_, path};
}

JsonField JsonField::at(std::size_t index) const {
    if (index >= size()) refuse("has no element " + std::to_string(index));
    return {(*value_)[index], *file_, path_ + "[" + std::to_string(index) + "]"};
}

std::size_t JsonField::size() const {
    if (!value_->is_array()) refuse("must be an array");
    return value_->size();
}

std::string JsonField::string() const {
    if (!value_->is_string()) refuse("must be a string");
    return value_->get<std::string>();
}

bool JsonField::boolean() const {
    if (!value_->is_boolean()) refuse("must be true or false");
    return value_->get<bool>();
}

std::int64_t JsonField::integer(std::int64_t min, std::int64_t max) const {
    if (!value_->is_number_integer()) refuse("must be a whole number");
    const bool too_large =
        value_->is_number_unsigned() &&
        value_->get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()};
    const auto number = too_large ? max : value_->get<std::int64_t>();
    if (too_large || number < min || number > max) {
        refuse("must lie between " + std::to_string(min) + " and " + std::to_string(max));
    }
    return number;
}

float JsonField::binary32() const {
    if (!value_->is_number()) refuse("must be a number");
    const auto number = value_->get<double>();
    if (!(std::abs(number) <= static_cast<double>(std::numeric_limits<float>::max()))) {
        refuse("must be a finite binary32 number");
    }
    return static_cast<float>(number);
}

}  // namespace etalon::text

// SPDX-License-Identifier: Apache-2.0
// JSON from a file, read field by field: whatever is not as expected is an Error (invalid) that
// names the file, the field and the reason.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace etalon::text {

using Json = nlohmann::json;

Json parse_json(std::string_view text, const std::string& file);

/// A value of a JSON file and the way to it. The document outlives it.
class JsonField {
  public:
    JsonField(const Json& value, const std::string& file, std::string path)
        : value_(&value), file_(&file), path_(std::move(path)) {}

    [[noreturn]] void refuse(const std::string& reason) const;

    bool is_null() const { return value_->is_null(); }
    bool is_string() const { return value_->is_string(); }
    bool is_array() const { return value_->is_array(); }
    bool is_object() const { return value_->is_object(); }

    /// A member of an object; a null field where the object has none.
    JsonField operator[](const std::string& key) const;
    JsonField at(std::size_t index) const;
    std::size_t size() const;  ///< elements of an array

    std::string string() const;
    bool boolean() const;
    bool boolean_or(bool otherwise) const { return is_null() ? otherwise : boolean(); }
    std::string string_or(const std::string& otherwise) const {
        return is_null() ? otherwise : string();
    }
    /// A whole number in [min, max].
    std::int64_t integer(std::int64_t min, std::int64_t max) const;
    float binary32() const;

    const Json& raw() const { return *value_; }

  private:
    const Json* value_;
    const std::string* file_;
    std::string path_;
};

}  // namespace etalon::text

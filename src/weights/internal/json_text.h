// SPDX-License-Identifier: Apache-2.0
// JSON from a file, bounded in depth; what is no JSON, or not as expected, is refused with a short
// message that names the field.
//   const json document = parse_json_text(text, "config.json", file);
//   const JsonFields fields(document, "config.json", file);
//   config.dim = fields.integer("hidden_size");
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace etalon::weights {

/// Errors: invalid, naming `field`, `file` and the byte where the text stops being JSON; also for
/// an object that names a member twice, which readers would settle differently.
nlohmann::json parse_json_text(std::string_view text, std::string_view field,
                               const std::string& file);

/// Members of a JSON object; whatever is missing or of another type is refused by its name, as
/// "PREFIX.KEY". The object and `file` outlive it.
class JsonFields {
  public:
    JsonFields(const nlohmann::json& object, std::string prefix, const std::string& file);

    [[noreturn]] void fail(std::string_view key, std::string_view reason) const;
    /// False for a member that is null as well.
    bool has(const char* key) const;
    const nlohmann::json& at(const char* key) const;

    std::string text(const char* key) const;
    std::string text_or(const char* key, const std::string& fallback) const {
        return has(key) ? text(key) : fallback;
    }
    int integer(const char* key) const;  ///< of 32 bits
    int integer_or(const char* key, int fallback) const {
        return has(key) ? integer(key) : fallback;
    }
    float number(const char* key) const;  ///< finite in binary32
    float number_or(const char* key, float fallback) const {
        return has(key) ? number(key) : fallback;
    }
    bool flag(const char* key) const;
    bool flag_or(const char* key, bool fallback) const { return has(key) ? flag(key) : fallback; }
    std::vector<float> numbers(const char* key, std::size_t count_max) const;
    JsonFields object(const char* key) const;

    template <typename Value, std::size_t N>
    Value choice(const char* key,
                 const std::array<std::pair<Value, std::string_view>, N>& table) const {
        const std::string name = text(key);
        for (const auto& [value, entry] : table) {
            if (entry == name) return value;
        }
        fail(key, "'" + name + "' is not known");
    }

  private:
    const nlohmann::json& object_;
    std::string prefix_;
    const std::string& file_;
};

}  // namespace etalon::weights

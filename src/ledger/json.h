// SPDX-License-Identifier: Apache-2.0
// The JSON of records (docs/ledger.md section 2): canonical (RFC 8785), without escapes, without
// fractions. One value has one form; anything else is refused.
//   Members record;
//   record.add("seq", 7).add("kind", "boot");
//   record.text() == R"({"kind":"boot","seq":7})"
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace etalon::ledger {

/// Whether a string may stand in a record: bytes 0x20 to 0x7E without '"' and '\'.
bool is_plain(std::string_view text) noexcept;
/// Other bytes become '?'; at most kNameBytesMax of them stay.
std::string plain(std::string_view text);

/// A string of full RFC 8785, quoted: for payloads, whose texts are any UTF-8.
std::string json_string(std::string_view text);

/// The members of an object that is written. Names are given once.
class Members {
  public:
    Members& add(const char* name, std::uint64_t value);
    Members& add(const char* name, std::string_view plain_text);
    Members& add(const char* name, const char* plain_text) {
        return add(name, std::string_view(plain_text));
    }
    Members& add(const char* name, const std::vector<std::string>& plain_texts);
    /// `json` is in canonical form already.
    Members& add_json(const char* name, std::string json);
    std::string text() const;

  private:
    std::map<std::string, std::string> members_;
};

/// "[a,b]" of values in canonical form.
std::string json_array(const std::vector<std::string>& values);

struct Value;
using Array = std::vector<Value>;
using Object = std::map<std::string, Value, std::less<>>;

struct Value {
    std::variant<bool, std::uint64_t, std::string, Array, Object> content;
};

/// Reads the canonical form of an object and nothing else. Errors: invalid (the place in bytes and
/// what was expected there).
Object parse_object(std::string_view bytes);

/// Takes the members of an object one by one and refuses what is left.
///   Taker taker(object, "intent");
///   intent.part = taker.integer("part");
///   taker.end();
/// Errors of all: invalid, with the member.
class Taker {
  public:
    Taker(const Object& object, std::string_view what) : object_(object), what_(what) {}

    std::uint64_t integer(std::string_view name, std::uint64_t low = 0,
                          std::uint64_t high = UINT64_MAX);
    const std::string& text(std::string_view name);
    /// Exactly `n_digits` lower-case hexadecimal digits.
    const std::string& hex(std::string_view name, std::size_t n_digits);
    const Array& array(std::string_view name);
    const Object& object(std::string_view name);
    void end() const;
    [[noreturn]] void refuse(std::string_view name, std::string_view why) const;

  private:
    const Value& take(std::string_view name);

    const Object& object_;
    std::string what_;
    std::size_t n_taken_ = 0;
};

bool is_hex(std::string_view text, std::size_t n_digits) noexcept;

}  // namespace etalon::ledger

// SPDX-License-Identifier: Apache-2.0
// Writing and reading the JSON of records.
#include "ledger/json.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

bool is_plain_byte(char c) noexcept {
    return c >= 0x20 && c <= 0x7E && c != '"' && c != '\\';
}

/// Recursive descent over bytes that must be in canonical form.
class Parser {
  public:
    explicit Parser(std::string_view bytes) : bytes_(bytes) {}

    Object whole() {
        if (peek() != '{') refuse("{");
        Object object = parse_object_at(1);
        if (at_ != bytes_.size()) refuse("the end");
        return object;
    }

  private:
    [[noreturn]] void refuse(std::string_view expected) const {
        throw Error(ExitCode::invalid, fmt::format("record, byte {}: expected {}", at_, expected));
    }
    char peek() const { return at_ < bytes_.size() ? bytes_[at_] : '\0'; }
    bool skip(char c) {
        if (peek() != c || at_ == bytes_.size()) return false;
        ++at_;
        return true;
    }

    Value value(int depth) {
        if (depth > kRecordDepthMax) refuse("fewer levels");
        const char c = peek();
        if (c == '{') return {parse_object_at(depth)};
        if (c == '[') return {array(depth)};
        if (c == '"') return {text()};
        if (c >= '0' && c <= '9') return {integer()};
        if (literal("true")) return {true};
        if (literal("false")) return {false};
        refuse("a value");
    }

    bool literal(std::string_view word) {
        if (bytes_.substr(at_, word.size()) != word) return false;
        at_ += word.size();
        return true;
    }

    std::string text() {
        if (!skip('"')) refuse("\"");
        const std::size_t begin = at_;
        while (at_ < bytes_.size() && is_plain_byte(bytes_[at_]))
            ++at_;
        std::string found(bytes_.substr(begin, at_ - begin));
        if (!skip('"')) refuse("a plain character or \"");
        return found;
    }

    std::uint64_t integer() {
        if (peek() == '0') {
            ++at_;
            return 0;
        }
        std::uint64_t number = 0;
        while (peek() >= '0' && peek() <= '9') {
            number = number * 10 + static_cast<std::uint64_t>(peek() - '0');
            if (number > kIntegerMax) refuse("a smaller number");
            ++at_;
        }
        return number;
    }

    Array array(int depth) {
        Array items;
        ++at_;
        if (skip(']')) return items;
        do
            items.push_back(value(depth + 1));
        while (skip(','));
        if (!skip(']')) refuse(", or ]");
        return items;
    }

    Object parse_object_at(int depth) {
        Object members;
        ++at_;
        if (skip('}')) return members;
        std::string last;
        do {
            std::string name = text();
            if (!members.empty() && name <= last) refuse("a name behind the last one's");
            if (!skip(':')) refuse(":");
            last = name;
            members.emplace(std::move(name), value(depth + 1));
        } while (skip(','));
        if (!skip('}')) refuse(", or }");
        return members;
    }

    std::string_view bytes_;
    std::size_t at_ = 0;
};

}  // namespace

bool is_plain(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), is_plain_byte);
}

std::string plain(std::string_view text) {
    std::string out(text.substr(0, kNameBytesMax));
    for (char& c : out)
        if (!is_plain_byte(c)) c = '?';
    return out;
}

std::string json_string(std::string_view text) {
    constexpr std::string_view kControls = "\b\t\n\f\r";
    constexpr std::string_view kEscapes = "btnfr";
    std::string out = "\"";
    for (const char c : text) {
        const std::size_t place = kControls.find(c);
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (place != std::string_view::npos) {
            out += '\\';
            out += kEscapes[place];
        } else if (static_cast<unsigned char>(c) < 0x20) {
            constexpr std::string_view kDigits = "0123456789abcdef";
            out += "\\u00";
            out += kDigits[static_cast<unsigned char>(c) >> 4];
            out += kDigits[static_cast<unsigned char>(c) & 15];
        } else {
            out += c;
        }
    }
    return out + '"';
}

std::string json_array(const std::vector<std::string>& values) {
    std::string out = "[";
    for (const std::string& value : values) {
        if (out.size() > 1) out += ',';
        out += value;
    }
    return out + ']';
}

Members& Members::add_json(const char* name, std::string json) {
    const bool is_new = members_.emplace(name, std::move(json)).second;
    ETALON_ASSERT(is_new);
    return *this;
}

Members& Members::add(const char* name, std::uint64_t value) {
    ETALON_ASSERT(value <= kIntegerMax);
    return add_json(name, std::to_string(value));
}

Members& Members::add(const char* name, std::string_view plain_text) {
    ETALON_ASSERT(is_plain(plain_text));
    std::string json = "\"";
    json += plain_text;
    return add_json(name, json + '"');
}

Members& Members::add(const char* name, const std::vector<std::string>& plain_texts) {
    std::vector<std::string> quoted;
    for (const std::string& text : plain_texts) {
        ETALON_ASSERT(is_plain(text));
        quoted.push_back('"' + text + '"');
    }
    return add_json(name, json_array(quoted));
}

std::string Members::text() const {
    std::string out = "{";
    for (const auto& [name, json] : members_) {
        if (out.size() > 1) out += ',';
        out += '"';
        out += name;
        out += "\":";
        out += json;
    }
    return out + '}';
}

Object parse_object(std::string_view bytes) {
    return Parser(bytes).whole();
}

bool is_hex(std::string_view text, std::size_t n_digits) noexcept {
    return text.size() == n_digits && std::all_of(text.begin(), text.end(), [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

void Taker::refuse(std::string_view name, std::string_view why) const {
    throw Error(ExitCode::invalid, fmt::format("{}: {}: {}", what_, printable(name), why));
}

const Value& Taker::take(std::string_view name) {
    const auto found = object_.find(name);
    if (found == object_.end()) refuse(name, "is missing");
    ++n_taken_;
    return found->second;
}

std::uint64_t Taker::integer(std::string_view name, std::uint64_t low, std::uint64_t high) {
    const auto* number = std::get_if<std::uint64_t>(&take(name).content);
    if (number == nullptr) refuse(name, "is no number");
    if (*number < low || *number > high) {
        refuse(name, fmt::format("is {}, accepted are {} to {}", *number, low,
                                 std::min(high, kIntegerMax)));
    }
    return *number;
}

const std::string& Taker::text(std::string_view name) {
    const auto* found = std::get_if<std::string>(&take(name).content);
    if (found == nullptr) refuse(name, "is no string");
    return *found;
}

const std::string& Taker::hex(std::string_view name, std::size_t n_digits) {
    const std::string& found = text(name);
    if (!is_hex(found, n_digits)) refuse(name, fmt::format("is not {} hex digits", n_digits));
    return found;
}

const Array& Taker::array(std::string_view name) {
    const auto* found = std::get_if<Array>(&take(name).content);
    if (found == nullptr) refuse(name, "is no array");
    return *found;
}

const Object& Taker::object(std::string_view name) {
    const auto* found = std::get_if<Object>(&take(name).content);
    if (found == nullptr) refuse(name, "is no object");
    return *found;
}

void Taker::end() const {
    if (n_taken_ == object_.size()) return;
    throw Error(ExitCode::invalid, fmt::format("{}: it has {} members, known are {}", what_,
                                               object_.size(), n_taken_));
}

}  // namespace etalon::ledger

// SPDX-License-Identifier: Apache-2.0
// A second parser reads the body up to the fault and remembers which field it is in.
#include "serve/json_diagnosis.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace {

using nlohmann::json;

constexpr std::size_t kNameBytesShown = 64;
constexpr std::size_t kDigitsMax = 19;  // of 64-bit integers, signed or not

class Diagnosis : public nlohmann::json_sax<json> {
  public:
    bool null() override { return true; }
    bool boolean(bool /*value*/) override { return true; }
    bool number_integer(number_integer_t /*value*/) override { return true; }
    bool number_unsigned(number_unsigned_t /*value*/) override { return true; }
    bool number_float(number_float_t /*value*/, const string_t& text) override {
        const bool digits_only = text.find_first_not_of("-0123456789") == std::string::npos;
        if (!digits_only || text.size() < kDigitsMax) return true;
        return stop("a number is too large");
    }
    bool string(string_t& /*value*/) override { return true; }
    bool binary(binary_t& /*value*/) override { return true; }
    bool start_object(std::size_t /*size*/) override { return enter(); }
    bool start_array(std::size_t /*size*/) override { return enter(); }
    bool end_object() override { return leave(); }
    bool end_array() override { return leave(); }
    bool key(string_t& name) override {
        if (depth_ == 1) field_ = printable(name, kNameBytesShown);
        return true;
    }
    bool parse_error(std::size_t position, const std::string& /*token*/,
                     const json::exception& error) override {
        // The parser's own text repeats what it read, which may be a prompt.
        const std::string_view what = error.what();
        if (what.find("406") != std::string_view::npos) return stop("a number is too large");
        if (what.find("UTF-8") != std::string_view::npos) {
            return stop(fmt::format("the text is not UTF-8 at byte {}", position));
        }
        return stop(fmt::format("not JSON at byte {}", position));
    }

    const std::string& field() const { return field_; }
    const std::string& message() const { return message_; }

  private:
    bool enter() {
        ++depth_;
        if (depth_ <= kJsonDepthMax) return true;
        return stop(fmt::format("nested deeper than {} levels", kJsonDepthMax));
    }
    bool leave() {
        --depth_;
        return true;
    }
    bool stop(std::string message) {
        message_ = std::move(message);
        return false;
    }

    std::size_t depth_ = 0;
    std::string field_;
    std::string message_ = "the body is not JSON";
};

}  // namespace

ApiError diagnose_json(std::string_view text) {
    if (text.empty()) return field_error("", "the body is empty, a JSON object is expected");
    Diagnosis diagnosis;
    json::sax_parse(text.begin(), text.end(), &diagnosis);
    const std::string& field = diagnosis.field();
    return field_error(field, field.empty() ? diagnosis.message()
                                            : fmt::format("{}: {}", field, diagnosis.message()));
}

}  // namespace etalon::serve

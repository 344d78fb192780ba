// SPDX-License-Identifier: Apache-2.0
// The fields of a JSON request: each is asked for by name, type and range, and what nobody asked
// for is known afterwards.
//   const JsonBody body(request.body);
//   Fields fields(body.object(), "");
//   const double temperature = fields.number("temperature", 0.0, 2.0).value_or(1.0);
//   const std::vector<std::string> ignored = fields.unread();
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <simdjson.h>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::serve {

/// A parsed body. Errors: ApiError 400; a number that cannot be (NaN, 1e999) and an object that is
/// nested too deep are reported with the name of the field that they are in.
class JsonBody {
  public:
    explicit JsonBody(std::string_view text);
    /// The whole body. Errors: ApiError 400 where it is no object.
    simdjson::dom::object object() const;

  private:
    simdjson::dom::parser parser_;
    simdjson::padded_string text_;
    simdjson::dom::element root_;
};

/// What a parser asked for by name, type and range.
struct FieldNote {
    enum class Type : std::uint8_t { any, ignored, boolean, number, integer, text, array, object };
    std::string path;  ///< "messages[0].role"
    Type type = Type::any;
    double low = 0.0;   ///< of a number
    double high = 0.0;  ///< of a number; bytes of a text, elements of an array
};

/// While it lives, every accessor of every Fields of this thread notes what it is asked for, first
/// question first: so a description of the API is made of what its parsers read (openapi.cpp).
class FieldRecorder {
  public:
    FieldRecorder();
    ~FieldRecorder();
    FieldRecorder(const FieldRecorder&) = delete;
    FieldRecorder& operator=(const FieldRecorder&) = delete;
    std::vector<FieldNote> notes;
};

/// Every accessor gives nullopt where the field is absent or null, and throws ApiError 400 that
/// names the field where it has another type or is out of range.
class Fields {
  public:
    /// `where` stands before the names in messages: "messages[2]." Errors: ApiError 400 for a name
    /// that comes twice (readers differ in which one counts) and for more than kFieldsMax names.
    Fields(simdjson::dom::object object, std::string where);

    std::optional<bool> boolean(std::string_view name);
    std::optional<double> number(std::string_view name, double low, double high);
    /// 5.0 is an integer too: some clients write it.
    std::optional<std::int64_t> integer(std::string_view name, std::int64_t low, std::int64_t high);
    /// Views live as long as the JsonBody.
    std::optional<std::string_view> text(std::string_view name, std::size_t bytes_max);
    std::optional<simdjson::dom::array> array(std::string_view name, std::size_t size_max);
    std::optional<Fields> object(std::string_view name);
    std::optional<simdjson::dom::element> any(std::string_view name);

    /// Marks a field as known although it has no effect here.
    void skip(std::string_view name);
    /// Names that are in the object and that nobody asked for, as in the request.
    std::vector<std::string> unread() const;
    /// "messages[2].role"
    std::string path(std::string_view name) const { return where_ + std::string(name); }
    simdjson::dom::object raw() const { return object_; }

  private:
    void note(std::string_view name, FieldNote::Type type, double low = 0.0,
              double high = 0.0) const;
    std::optional<simdjson::dom::element> find(std::string_view name);

    simdjson::dom::object object_;
    std::string where_;
    std::set<std::string, std::less<>> read_;
};

/// One value as an integer in [low, high]; `where` names it in the message.
std::int64_t integer_of(simdjson::dom::element value, const std::string& where, std::int64_t low,
                        std::int64_t high);
double number_of(simdjson::dom::element value, const std::string& where, double low, double high);
std::string_view text_of(simdjson::dom::element value, const std::string& where,
                         std::size_t bytes_max);

}  // namespace etalon::serve

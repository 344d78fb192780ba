// SPDX-License-Identifier: Apache-2.0
// Errors as answers.
#include "serve/api_error.h"

#include <nlohmann/json.hpp>

namespace etalon::serve {

namespace {

using nlohmann::ordered_json;

constexpr const char* kInvalidRequest = "invalid_request_error";

std::string dump(const ordered_json& value) {
    return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

ordered_json text_or_null(const std::string& text) {
    return text.empty() ? ordered_json(nullptr) : ordered_json(text);
}

}  // namespace

ApiError::ApiError(int status, std::string type, std::string code, std::string message,
                   std::string param)
    : status_(status),
      type_(std::move(type)),
      code_(std::move(code)),
      message_(std::move(message)),
      param_(std::move(param)) {}

ApiError ApiError::with_header(std::string name, std::string value) const {
    ApiError more = *this;
    more.headers_.emplace_back(std::move(name), std::move(value));
    return more;
}

std::string ApiError::body(std::string_view request_id) const {
    const ordered_json error{{"message", message_},
                             {"type", type_},
                             {"param", text_or_null(param_)},
                             {"code", text_or_null(code_)}};
    ordered_json whole{{"object", "error"}};
    whole.update(error);
    whole["error"] = error;
    whole["request_id"] = request_id;
    return dump(whole);
}

HttpResponse ApiError::response(std::string_view request_id) const {
    return {status_, "application/json", headers_, body(request_id)};
}

std::string ApiError::event(std::string_view request_id) const {
    return "data: " + body(request_id) + "\n\n";
}

ApiError field_error(std::string_view field, std::string message) {
    return {400, kInvalidRequest, "invalid_value", std::move(message), std::string(field)};
}

ApiError unsupported(std::string_view field, std::string message) {
    return {400, kInvalidRequest, "unsupported_value", std::move(message), std::string(field)};
}

ApiError not_found(std::string message, std::string code) {
    return {404, kInvalidRequest, std::move(code), std::move(message)};
}

ApiError unavailable(std::string message) {
    ApiError error(503, "server_error", "unavailable", std::move(message));
    return error.with_header("retry-after", "2");
}

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// What is wrong with a request, as the clients of every dialect read it.
//   throw field_error("temperature", "temperature is 3, accepted are 0 to 2");
#pragma once

#include <exception>
#include <string>
#include <string_view>

#include "serve/http.h"

namespace etalon::serve {

/// Ends a request with a status and one body that the clients of OpenAI, Mistral and llama.cpp
/// read alike. Messages are lower case without a full stop and never repeat a prompt.
class ApiError : public std::exception {
  public:
    ApiError(int status, std::string type, std::string code, std::string message,
             std::string param = "");

    int status() const noexcept { return status_; }
    const std::string& message() const noexcept { return message_; }
    const char* what() const noexcept override { return message_.c_str(); }

    /// The same error with one more header.
    ApiError with_header(std::string name, std::string value) const;

    /// {"object":"error","message",...,"error":{...},"request_id"}; param "" is null.
    std::string body(std::string_view request_id) const;
    HttpResponse response(std::string_view request_id) const;
    /// The event that ends a stream: `data: {"error": ...}` with an empty line.
    std::string event(std::string_view request_id) const;

  private:
    int status_;
    std::string type_;
    std::string code_;
    std::string message_;
    std::string param_;
    HeaderList headers_;
};

/// 400: `field` (as the client named it) has a value that is not accepted.
ApiError field_error(std::string_view field, std::string message);
/// 400: `field` means something that this server does not do; it is never ignored in silence.
ApiError unsupported(std::string_view field, std::string message);
/// 404 for a route or a thing that does not exist.
ApiError not_found(std::string message, std::string code = "not_found");
/// 503 with Retry-After: the model is loading, or its worker was lost.
ApiError unavailable(std::string message);

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// Heads of requests.
#include "serve/request_head.h"

#include <cctype>
#include <fmt/format.h>

#include "serve/boost.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace http = boost::beast::http;

HttpRequest request_of(const http::request<http::string_body>& request) {
    HttpRequest out;
    out.method = std::string(request.method_string());
    const std::string target(request.target());
    const std::size_t question = target.find('?');
    out.path = target.substr(0, question);
    if (question != std::string::npos) out.query = target.substr(question + 1);
    for (const auto& field : request) {
        std::string name(field.name_string());
        for (char& c : name)
            c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        out.headers.emplace_back(std::move(name), std::string(field.value()));
    }
    return out;
}

std::optional<ApiError> head_error(const boost::system::error_code& error) {
    if (error == http::error::header_limit || error == http::error::buffer_overflow) {
        return ApiError(431, "invalid_request_error", "headers_too_large",
                        fmt::format("the headers have more than {} bytes", kHeaderBytesMax));
    }
    if (error == http::error::body_limit) {
        return ApiError(413, "invalid_request_error", "body_too_large",
                        fmt::format("the body has more than {} bytes", kBodyBytesMax));
    }
    if (error == boost::beast::error::timeout) {
        return ApiError(408, "invalid_request_error", "timeout", "the request came too slowly");
    }
    if (error == http::error::end_of_stream || error == http::error::partial_message ||
        error.category() != http::make_error_code(http::error::end_of_stream).category()) {
        return std::nullopt;
    }
    return field_error("", "the request is not HTTP/1.1 as it should be");
}

void check_body_head(const HttpRequest& head, boost::optional<std::uint64_t> content_length) {
    if (content_length && *content_length > kBodyBytesMax) {
        throw ApiError(413, "invalid_request_error", "body_too_large",
                       fmt::format("the body has {} bytes, at most {} are accepted",
                                   *content_length, kBodyBytesMax));
    }
    const std::string* expect = head.header("expect");
    if (expect != nullptr && *expect != "100-continue") {
        throw ApiError(417, "invalid_request_error", "expectation_failed",
                       "expect: only 100-continue is understood");
    }
}

}  // namespace etalon::serve

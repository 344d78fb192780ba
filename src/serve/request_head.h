// SPDX-License-Identifier: Apache-2.0
// From Beast's view of a request to ours.
#pragma once

#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <boost/optional.hpp>
#include <cstdint>
#include <optional>

#include "serve/api_error.h"
#include "serve/http.h"

namespace etalon::serve {

/// Method, target and headers; names of headers in lower case.
HttpRequest request_of(const boost::beast::http::request<boost::beast::http::string_body>& request);

/// What to tell a client whose head or body could not be read; nullopt: it is not there any more.
std::optional<ApiError> head_error(const boost::system::error_code& error);

/// The body's announced size and the Expect header. Errors: ApiError 413, 417.
void check_body_head(const HttpRequest& head, boost::optional<std::uint64_t> content_length);

}  // namespace etalon::serve

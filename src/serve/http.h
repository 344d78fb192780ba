// SPDX-License-Identifier: Apache-2.0
// A request and a response of HTTP as plain values, free of any library.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace etalon::serve {

using HeaderList = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
    std::string method;  ///< as sent; methods are case-sensitive
    std::string path;    ///< starts with '/', as sent, without the query
    std::string query;   ///< behind '?'
    HeaderList headers;  ///< names in lower case
    std::string body;

    /// Value of the only header of that name; nullptr when there is none, or more than one.
    const std::string* header(std::string_view name) const;
};

struct HttpResponse {
    int status = 200;
    std::string content_type = "application/json";
    HeaderList headers;
    std::string body;
};

/// "Not Found" for 404; "" for a status that this server does not send.
std::string_view reason_of(int status);

/// %41 -> A. A broken escape stays as it is.
std::string percent_decoded(std::string_view text);

/// Status line and headers of a response, up to and with the empty line. `body_bytes` absent: the
/// body follows in chunks, or until the connection closes where `chunked` is false.
struct Framing {
    bool keep_alive = true;
    bool chunked = false;
    bool has_length = true;
    std::size_t body_bytes = 0;
};
std::string head_text(const HttpResponse& response, const Framing& framing);

/// One chunk of a chunked body; an empty text gives "": it would end the body.
std::string chunk_text(std::string_view text);
inline constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace etalon::serve

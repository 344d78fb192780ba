// SPDX-License-Identifier: Apache-2.0
// The parts of HTTP that are text.
#include "serve/http.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::serve {

namespace {

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/// A header never carries a line end, whatever it was made from.
bool is_one_line(std::string_view text) {
    return std::none_of(text.begin(), text.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; });
}

}  // namespace

const std::string* HttpRequest::header(std::string_view name) const {
    const std::string* found = nullptr;
    for (const auto& [key, value] : headers) {
        if (key != name) continue;
        if (found != nullptr) return nullptr;
        found = &value;
    }
    return found;
}

std::string_view reason_of(int status) {
    static constexpr std::array<std::pair<int, std::string_view>, 20> kReasons{{
        {100, "Continue"},
        {200, "OK"},
        {202, "Accepted"},
        {204, "No Content"},
        {400, "Bad Request"},
        {401, "Unauthorized"},
        {403, "Forbidden"},
        {404, "Not Found"},
        {405, "Method Not Allowed"},
        {408, "Request Timeout"},
        {410, "Gone"},
        {413, "Content Too Large"},
        {415, "Unsupported Media Type"},
        {417, "Expectation Failed"},
        {421, "Misdirected Request"},
        {429, "Too Many Requests"},
        {431, "Request Header Fields Too Large"},
        {500, "Internal Server Error"},
        {501, "Not Implemented"},
        {503, "Service Unavailable"},
    }};
    const auto* found = std::find_if(kReasons.begin(), kReasons.end(),
                                     [&](const auto& row) { return row.first == status; });
    return found == kReasons.end() ? std::string_view() : found->second;
}

std::string percent_decoded(std::string_view text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '%' && i + 2 < text.size()) {
            const int high = hex_value(text[i + 1]);
            const int low = hex_value(text[i + 2]);
            if (high >= 0 && low >= 0) {
                out += static_cast<char>(high * 16 + low);
                i += 2;
                continue;
            }
        }
        out += text[i];
    }
    return out;
}

std::string head_text(const HttpResponse& response, const Framing& framing) {
    const std::string_view reason = reason_of(response.status);
    ETALON_ASSERT(!reason.empty());
    std::string out = fmt::format("HTTP/1.1 {} {}\r\n", response.status, reason);
    if (!response.content_type.empty()) {
        out += fmt::format("content-type: {}\r\n", response.content_type);
    }
    for (const auto& [name, value] : response.headers) {
        ETALON_ASSERT(is_one_line(name));
        ETALON_ASSERT(is_one_line(value));
        out += fmt::format("{}: {}\r\n", name, value);
    }
    if (framing.has_length) {
        if (response.status != 204) {
            out += fmt::format("content-length: {}\r\n", framing.body_bytes);
        }
    } else if (framing.chunked) {
        out += "transfer-encoding: chunked\r\n";
    }
    out += framing.keep_alive ? "connection: keep-alive\r\n\r\n" : "connection: close\r\n\r\n";
    return out;
}

std::string chunk_text(std::string_view text) {
    if (text.empty()) return "";
    return fmt::format("{:x}\r\n{}\r\n", text.size(), text);
}

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
#include "cli/server_address.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <string_view>
#include <system_error>

#include "base/error.h"

namespace etalon::cli {

namespace {

constexpr std::uint16_t kHttpPort = 80;
constexpr std::uint16_t kHttpsPort = 443;

}  // namespace

std::string ServerAddress::url() const {
    const bool v6 = host.find(':') != std::string::npos;
    const bool usual = port == (tls ? kHttpsPort : kHttpPort);
    return fmt::format("{}://{}{}{}{}", tls ? "https" : "http", v6 ? "[" : "", host, v6 ? "]" : "",
                       usual ? "" : fmt::format(":{}", port));
}

ServerAddress parse_server_url(const std::string& url) {
    const auto wrong = [&] {
        return Error(ExitCode::usage, fmt::format("{} is no URL of a server", printable(url)),
                     "as in http://127.0.0.1:8080 or https://chat.example.org");
    };
    constexpr std::string_view kPlain = "http://";
    constexpr std::string_view kSecure = "https://";
    ServerAddress address;
    address.tls = url.rfind(kSecure, 0) == 0;
    if (!address.tls && url.rfind(kPlain, 0) != 0) throw wrong();
    std::string rest = url.substr(address.tls ? kSecure.size() : kPlain.size());
    const std::string path = rest.substr(std::min(rest.find('/'), rest.size()));
    if (!path.empty() && path != "/" && path != "/v1" && path != "/v1/") throw wrong();
    rest.resize(rest.size() - path.size());
    address.port = address.tls ? kHttpsPort : kHttpPort;
    const std::size_t colon = rest.rfind(':');
    if (colon != std::string::npos && rest.find(']', colon) == std::string::npos) {
        const char* end = rest.data() + rest.size();
        const auto [parsed, error] = std::from_chars(rest.data() + colon + 1, end, address.port);
        if (error != std::errc() || parsed != end || address.port == 0) throw wrong();
        rest.resize(colon);
    }
    if (rest.size() > 2 && rest.front() == '[' && rest.back() == ']') {
        rest = rest.substr(1, rest.size() - 2);
    }
    if (rest.empty() || rest.find_first_of(" @\t\r\n[]") != std::string::npos) throw wrong();
    address.host = rest;
    return address;
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// Where a server is.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>

namespace etalon::cli {

struct ServerAddress {
    bool tls = false;
    std::string host;  ///< without brackets
    std::uint16_t port = 0;
    std::string key;  ///< empty: none is sent
    std::filesystem::path ca_file;
    std::chrono::seconds time_max{0};  ///< from the first packet to the end; 0: no limit

    std::string url() const;  ///< "http://127.0.0.1:8080"
};

/// "http://HOST:PORT" or "https://HOST"; a path "/v1" is what SDKs are given and is dropped.
/// Errors: usage.
ServerAddress parse_server_url(const std::string& url);

}  // namespace etalon::cli

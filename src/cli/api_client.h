// SPDX-License-Identifier: Apache-2.0
// Questions to a running server, for the commands that talk to one.
//   ApiClient client(find_server(options));
//   const ApiResponse models = client.get("/v1/models");
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace etalon::cli {

struct ServerOptions {
    std::string server;    ///< URL; empty: the server of this account, else the configured address
    std::string key_file;  ///< empty: the local key
    std::string ca_file;   ///< PEM; empty: the system's, and the certificate that is configured
};
void add_server_options(CLI::App& command, ServerOptions& options);

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

/// Errors: usage (an option), not_found (there is no key), those of the configuration.
ServerAddress find_server(const ServerOptions& options);

struct ApiResponse {
    int status = 0;
    std::string body;  ///< empty where it was given away piece by piece
};

class ApiClient {
  public:
    /// Called with each piece of a body; false: no more is wanted.
    using OnPiece = std::function<bool(std::string_view piece)>;

    explicit ApiClient(ServerAddress address) : address_(std::move(address)) {}
    const ServerAddress& address() const noexcept { return address_; }

    /// Errors of both: unavailable (nobody answers there, or it breaks off), refused (the
    /// certificate is not trusted), interrupted (a signal while it waits), invalid (no HTTP).
    ApiResponse get(const std::string& path) const;
    /// `on_piece` gets the body of an answer that succeeded; every other one is collected.
    ApiResponse post(const std::string& path, const std::string& body, const OnPiece& on_piece,
                     const char* content_type = "application/json") const;

  private:
    ServerAddress address_;
};

/// What the server says is wrong, with the exit code that belongs to its status.
[[noreturn]] void throw_api_error(const ApiResponse& response);

}  // namespace etalon::cli

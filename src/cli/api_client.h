// SPDX-License-Identifier: Apache-2.0
// Questions to a running server, for the commands that talk to one.
//   ApiClient client(find_server(options));
//   const ApiResponse models = client.get("/v1/models");
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include "cli/server_address.h"

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

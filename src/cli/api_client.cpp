// SPDX-License-Identifier: Apache-2.0
// One connection a question; blocking, because a command has nothing else to do.
#include "cli/api_client.h"

#include <CLI/CLI.hpp>
#include <array>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <condition_variable>
#include <fmt/format.h>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <thread>

#include "base/error.h"
#include "serve/config.h"
#include "serve/local_key.h"
#include "serve/running_server.h"

namespace etalon::cli {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::size_t kCollectedBytesMax = 16U << 20;  // of an answer that is kept whole
constexpr std::size_t kPieceBytes = 16384;
constexpr const char* kNoServerHint = "etalon serve starts one; --server URL names another";

using Request = http::request<http::string_body>;
using OnPiece = ApiClient::OnPiece;

[[noreturn]] void fail(const ServerAddress& address, const char* what, const error_code& error) {
    if (error == boost::system::errc::interrupted) {
        throw Error(ExitCode::interrupted, "interrupted");
    }
    throw Error(ExitCode::unavailable,
                fmt::format("{} {}: {}", what, address.url(), error.message()), kNoServerHint);
}

using Clock = std::chrono::steady_clock;

/// Cuts the connection when its time is over: blocking calls have none of their own. Goes before
/// the socket does.
class Deadline {
  public:
    Deadline(int fd, Clock::time_point end) {
        if (end == Clock::time_point::max()) return;
        thread_ = std::thread([this, fd, end] {
            std::unique_lock lock(mutex_);
            if (!ended_.wait_until(lock, end, [this] { return is_over_; })) {
                ::shutdown(fd, SHUT_RDWR);
            }
        });
    }
    ~Deadline() {
        if (!thread_.joinable()) return;
        {
            const std::lock_guard lock(mutex_);
            is_over_ = true;
        }
        ended_.notify_one();
        thread_.join();
    }
    Deadline(const Deadline&) = delete;
    Deadline& operator=(const Deadline&) = delete;

  private:
    std::mutex mutex_;
    std::condition_variable ended_;
    bool is_over_ = false;
    std::thread thread_;
};

/// Sends one request and reads its answer.
template <typename Stream>
ApiResponse exchange(Stream& stream, const Request& request, const OnPiece& on_piece,
                     const ServerAddress& address) {
    error_code error;
    http::write(stream, request, error);
    if (error) fail(address, "cannot ask", error);
    boost::beast::flat_buffer buffer;
    http::response_parser<http::buffer_body> parser;
    parser.body_limit(boost::none);  // what is kept has its own limit, a stream has none
    http::read_header(stream, buffer, parser, error);
    if (error) fail(address, "no answer from", error);
    ApiResponse response;
    response.status = parser.get().result_int();
    const bool give_away = on_piece && response.status == 200;
    std::array<char, kPieceBytes> piece{};
    while (!parser.is_done()) {
        parser.get().body().data = piece.data();
        parser.get().body().size = piece.size();
        http::read_some(stream, buffer, parser, error);
        if (error && error != http::error::need_buffer) fail(address, "no answer from", error);
        const std::string_view text(piece.data(), piece.size() - parser.get().body().size);
        if (give_away) {
            if (!text.empty() && !on_piece(text)) return response;
            continue;
        }
        response.body += text;
        if (response.body.size() > kCollectedBytesMax) {
            throw Error(ExitCode::invalid, fmt::format("the answer of {} is over {} bytes",
                                                       address.url(), kCollectedBytesMax));
        }
    }
    return response;
}

/// Until `end`, and as long as the system's own resolver takes to give a name up, if that is
/// longer.
tcp::socket connect(asio::io_context& io, const ServerAddress& address, Clock::time_point end) {
    error_code error;
    tcp::resolver resolver(io);
    const auto found = resolver.resolve(address.host, std::to_string(address.port), error);
    tcp::socket socket(io);
    if (error) fail(address, "cannot reach", error);
    if (end == Clock::time_point::max()) {
        asio::connect(socket, found, error);
    } else {
        bool is_done = false;
        asio::async_connect(socket, found, [&](const error_code& outcome, const tcp::endpoint&) {
            error = outcome;
            is_done = true;
        });
        io.run_until(end);
        if (!is_done) {
            error_code ignored;
            socket.close(ignored);
            io.restart();
            io.run();  // the handler goes before what it refers to
            error = asio::error::timed_out;
        }
    }
    if (error) fail(address, "cannot reach", error);
    return socket;
}

ApiResponse exchange_tls(tcp::socket& socket, const Request& request, const OnPiece& on_piece,
                         const ServerAddress& address) {
    error_code error;
    asio::ssl::context context(asio::ssl::context::tls_client);
    context.set_default_verify_paths(error);
    if (!address.ca_file.empty()) {
        context.load_verify_file(address.ca_file.string(), error);
        if (error) {
            throw Error(ExitCode::usage,
                        fmt::format("cannot use {}: {}", printable(address.ca_file.string()),
                                    error.message()));
        }
    }
    asio::ssl::stream<tcp::socket&> stream(socket, context);
    stream.set_verify_mode(asio::ssl::verify_peer, error);
    stream.set_verify_callback(asio::ssl::host_name_verification(address.host), error);
    SSL_set_tlsext_host_name(stream.native_handle(), address.host.c_str());
    stream.handshake(asio::ssl::stream_base::client, error);
    if (error == boost::system::errc::interrupted) fail(address, "cannot reach", error);
    if (error) {
        throw Error(ExitCode::refused,
                    fmt::format("no trusted connection to {}: {}", address.url(), error.message()),
                    "--server https://NAME with the name in its certificate, --ca-file FILE with "
                    "who signed it");
    }
    return exchange(stream, request, on_piece, address);
}

ApiResponse send(const ServerAddress& address, Request request, const OnPiece& on_piece) {
    const std::string url = address.url();
    request.set(http::field::host, url.substr(url.find("://") + 3));
    request.set(http::field::user_agent, "etalon/" ETALON_VERSION);
    if (!address.key.empty()) {
        request.set(http::field::authorization, "Bearer " + address.key);
    }
    request.keep_alive(false);
    request.prepare_payload();
    asio::io_context io;
    const Clock::time_point end =
        address.time_max.count() == 0 ? Clock::time_point::max() : Clock::now() + address.time_max;
    tcp::socket socket = connect(io, address, end);
    const Deadline deadline(socket.native_handle(), end);
    if (address.tls) return exchange_tls(socket, request, on_piece, address);
    return exchange(socket, request, on_piece, address);
}

/// Where a server of this account would be, were it running.
std::string configured_url(const serve::Config& config) {
    if (config.listen.empty()) throw Error(ExitCode::usage, "listen is an empty list");
    return (config.certificate.empty() ? "http://" : "https://") + config.listen.front();
}

}  // namespace

void add_server_options(CLI::App& command, ServerOptions& options) {
    command.add_option("--server", options.server,
                       "URL of the server; else the one that runs here, or is configured");
    command.add_option("--key-file", options.key_file, "file with the key; else the local key");
    command.add_option("--ca-file", options.ca_file, "PEM file: who may sign a TLS certificate");
}

ServerAddress find_server(const ServerOptions& options) {
    const serve::Config config = serve::load_config();
    std::string url = options.server;
    if (url.empty()) {
        const auto running = serve::find_running_server(serve::running_server_path());
        url = running && !running->urls.empty() ? running->urls.front() : configured_url(config);
    }
    ServerAddress address = parse_server_url(url);
    address.ca_file = options.ca_file.empty() ? config.certificate : options.ca_file;
    const std::filesystem::path key_file = options.key_file.empty()
                                               ? serve::local_key_path()
                                               : std::filesystem::path(options.key_file);
    try {
        address.key = serve::read_local_key(key_file);
    } catch (const Error& error) {
        throw Error(error.code(), fmt::format("no key: {}", error.message()),
                    "etalon serve makes one for its own account; etalon key create makes others, "
                    "--key-file FILE names one");
    }
    return address;
}

ApiResponse ApiClient::get(const std::string& path) const {
    return send(address_, Request(http::verb::get, path, 11), {});
}

ApiResponse ApiClient::post(const std::string& path, const std::string& body,
                            const OnPiece& on_piece, const char* content_type) const {
    Request request(http::verb::post, path, 11);
    request.set(http::field::content_type, content_type);
    request.body() = body;
    return send(address_, std::move(request), on_piece);
}

void throw_api_error(const ApiResponse& response) {
    ExitCode code = ExitCode::failure;
    if (response.status == 400 || response.status == 422) code = ExitCode::usage;
    if (response.status == 401 || response.status == 403) code = ExitCode::refused;
    if (response.status == 404) code = ExitCode::not_found;
    if (response.status == 429) code = ExitCode::try_later;
    if (response.status == 503) code = ExitCode::unavailable;
    std::string message;
    const auto body = nlohmann::json::parse(response.body, nullptr, false);
    if (body.is_object() && body.contains("message") && body["message"].is_string()) {
        message = body["message"].get<std::string>();
    }
    throw Error(code, fmt::format("the server says {}: {}", response.status,
                                  message.empty() ? "no reason" : message));
}

}  // namespace etalon::cli

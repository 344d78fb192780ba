// SPDX-License-Identifier: Apache-2.0
#include "serve/witness_server.h"

#include <chrono>
#include <fmt/format.h>

#include "base/clock.h"
#include "base/error.h"
#include "serve/boost.h"
#include "serve/limits.h"
#include "serve/listener.h"
#include "serve/log.h"

namespace etalon::serve {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = beast::http;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr const char* kTarget = "/add-checkpoint";
constexpr std::size_t kHeadBytesMax = 8192;  // clients send four short fields
constexpr int kWitnessConnectionsMax = 64;   // each log has one courier
constexpr std::chrono::seconds kExchangeTime{10};

class WitnessServer {
  public:
    explicit WitnessServer(tlog::WitnessStore& witness)
        : witness_(witness), acceptor_(io_), signals_(io_, SIGTERM, SIGINT) {}

    Listen listen(const Listen& wanted) {
        acceptor_ = open_listener(io_, wanted);
        return {wanted.address, acceptor_.local_endpoint().port()};
    }

    void run() {
        signals_.async_wait([this](error_code, int) { io_.stop(); });
        asio::co_spawn(io_, accept(), [](const std::exception_ptr& fault) {
            if (fault) std::rethrow_exception(fault);
        });
        io_.run();
    }

  private:
    asio::awaitable<void> accept() {
        while (auto socket = co_await next_connection(acceptor_)) {
            if (n_open_ >= kWitnessConnectionsMax) continue;  // closes it
            ++n_open_;
            asio::co_spawn(io_, serve(beast::tcp_stream(std::move(*socket))),
                           [this](const std::exception_ptr& fault) {
                               --n_open_;
                               report(fault);
                           });
        }
    }

    /// One request a connection: a log asks once in some seconds.
    asio::awaitable<void> serve(beast::tcp_stream stream) {
        stream.expires_after(kExchangeTime);
        error_code error;
        beast::flat_buffer buffer(kHeadBytesMax);
        http::request_parser<http::string_body> parser;
        parser.header_limit(kHeadBytesMax);
        parser.body_limit(tlog::kAddCheckpointBytesMax);
        co_await http::async_read(stream, buffer, parser,
                                  asio::redirect_error(asio::use_awaitable, error));
        if (error == http::error::end_of_stream) co_return;
        http::response<http::string_body> response;
        if (error) {
            response.result(error == http::error::body_limit ? http::status::payload_too_large
                                                             : http::status::bad_request);
        } else {
            answer(parser.get(), response);
        }
        response.keep_alive(false);
        response.prepare_payload();
        co_await http::async_write(stream, response,
                                   asio::redirect_error(asio::use_awaitable, error));
        stream.socket().shutdown(tcp::socket::shutdown_send, error);
    }

    void answer(const http::request<http::string_body>& request,
                http::response<http::string_body>& response) {
        if (request.target() != kTarget) return response.result(http::status::not_found);
        if (request.method() != http::verb::post) {
            response.set(http::field::allow, "POST");
            return response.result(http::status::method_not_allowed);
        }
        const tlog::WitnessAnswer said = witness_.take(request.body(), unix_time());
        response.result(static_cast<unsigned>(said.status));
        response.set(http::field::content_type, said.content_type);
        response.body() = said.body;
    }

    static void report(const std::exception_ptr& fault) {
        if (!fault) return;
        try {
            std::rethrow_exception(fault);
        } catch (const Error& error) {
            log_note(error.message());
        } catch (const std::exception& error) {
            log_note(error.what());
        }
    }

    tlog::WitnessStore& witness_;
    asio::io_context io_{1};
    tcp::acceptor acceptor_;
    asio::signal_set signals_;
    int n_open_ = 0;
};

}  // namespace

void run_witness(const Listen& listen, tlog::WitnessStore& witness,
                 const std::function<void(const Listen& listen)>& on_listening) {
    WitnessServer server(witness);
    const Listen listening = server.listen(listen);
    if (on_listening) on_listening(listening);
    server.run();
}

}  // namespace etalon::serve

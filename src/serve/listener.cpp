// SPDX-License-Identifier: Apache-2.0
#include "serve/listener.h"

#include <chrono>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::serve {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

namespace {

constexpr std::chrono::milliseconds kDescriptorPause{100};

}  // namespace

tcp::acceptor open_listener(asio::io_context& io, const Listen& wanted) {
    error_code error;
    const auto address = asio::ip::make_address(wanted.address, error);
    if (error) {
        throw Error(ExitCode::usage, fmt::format("{} is no address", printable(wanted.address)));
    }
    const tcp::endpoint endpoint(address, wanted.port);
    tcp::acceptor acceptor(io);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
    if (error) {
        throw Error(ExitCode::unavailable,
                    fmt::format("cannot listen on {}: {}", listen_text(wanted), error.message()),
                    "--listen HOST:PORT names another address");
    }
    return acceptor;
}

asio::awaitable<std::optional<tcp::socket>> next_connection(tcp::acceptor& acceptor) {
    while (acceptor.is_open()) {
        error_code error;
        tcp::socket socket =
            co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
        if (!error) co_return std::move(socket);
        if (error == asio::error::operation_aborted) break;
        asio::steady_timer pause(acceptor.get_executor(), kDescriptorPause);
        co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    co_return std::nullopt;
}

}  // namespace etalon::serve

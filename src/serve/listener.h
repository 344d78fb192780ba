// SPDX-License-Identifier: Apache-2.0
// Sockets that wait for connections.
//   tcp::acceptor acceptor = open_listener(io, {"127.0.0.1", 8080});
//   while (auto socket = co_await next_connection(acceptor)) serve(std::move(*socket));
#pragma once

#include <optional>

#include "serve/boost.h"
#include "serve/server.h"

namespace etalon::serve {

/// Port 0: the system chooses one. Errors: usage (no address), unavailable (another program has
/// it).
boost::asio::ip::tcp::acceptor open_listener(boost::asio::io_context& io, const Listen& wanted);

/// Waits; when descriptors have run out, until there are some. Nothing: the acceptor was closed.
boost::asio::awaitable<std::optional<boost::asio::ip::tcp::socket>> next_connection(
    boost::asio::ip::tcp::acceptor& acceptor);

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// Sessions without TLS: loopback.
#include "serve/session_impl.h"

namespace etalon::serve {

asio::awaitable<void> serve_plain(asio::ip::tcp::socket socket, SessionContext& context) {
    Session<beast::tcp_stream> session(context, std::move(socket));
    co_await session.serve();
    error_code ignored;
    session.stream().socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
}

}  // namespace etalon::serve

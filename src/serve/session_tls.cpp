// SPDX-License-Identifier: Apache-2.0
// Sessions with TLS.
#include <boost/asio/ssl/context.hpp>
#include <boost/beast/ssl.hpp>

#include "serve/session_impl.h"

namespace etalon::serve {

asio::awaitable<void> serve_tls(asio::ip::tcp::socket socket,
                                std::shared_ptr<asio::ssl::context> tls, SessionContext& context) {
    using Stream = beast::ssl_stream<beast::tcp_stream>;
    Session<Stream> session(context, std::move(socket), *tls);
    beast::get_lowest_layer(session.stream()).expires_after(kHeaderTime);
    error_code error;
    co_await session.stream().async_handshake(asio::ssl::stream_base::server,
                                              asio::redirect_error(asio::use_awaitable, error));
    if (error) co_return;
    co_await session.serve();
    beast::get_lowest_layer(session.stream()).expires_after(kHeaderTime);
    co_await session.stream().async_shutdown(asio::redirect_error(asio::use_awaitable, error));
}

}  // namespace etalon::serve

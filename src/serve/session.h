// SPDX-License-Identifier: Apache-2.0
// One connection from its first byte to its last, plain or with TLS.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <cstdint>
#include <memory>
#include <set>
#include <vector>

#include "serve/dispatcher.h"
#include "serve/self_check.h"
#include "serve/site.h"

namespace etalon::serve {

/// A session that can be told to end.
class Idler {
  public:
    virtual ~Idler() = default;
    virtual void close_if_idle() = 0;
    /// The connection is dropped, whatever it does.
    virtual void close_now() = 0;
};

/// What sessions share with the server. It outlives them.
struct SessionContext {
    boost::asio::io_context& io;
    Site& site;
    std::vector<std::unique_ptr<Dispatcher>>& dispatchers;  ///< one a model
    SelfChecks& checks;
    std::set<Idler*> idlers;       ///< every session
    std::uint64_t body_bytes = 0;  ///< of all bodies in memory
};

/// Returns when the connection has ended, whatever the reason; throws nothing that matters.
boost::asio::awaitable<void> serve_plain(boost::asio::ip::tcp::socket socket,
                                         SessionContext& context);
/// `tls` is kept while the session lasts: a new certificate holds for later ones.
boost::asio::awaitable<void> serve_tls(boost::asio::ip::tcp::socket socket,
                                       std::shared_ptr<boost::asio::ssl::context> tls,
                                       SessionContext& context);

}  // namespace etalon::serve

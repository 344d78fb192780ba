// SPDX-License-Identifier: Apache-2.0
// Notices that a client went away while its answer is computed.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <poll.h>

#include "serve/dispatcher.h"
#include "serve/limits.h"

namespace etalon::serve {

/// Watches a socket until stop(): readable means that the client has ended, or that it sent ahead
/// and has to be looked at from time to time. Must be stopped before the socket is gone.
class ClientWatch : public std::enable_shared_from_this<ClientWatch> {
  public:
    ClientWatch(boost::asio::ip::tcp::socket& socket, std::shared_ptr<Mailbox> mailbox)
        : socket_(&socket), mailbox_(std::move(mailbox)), timer_(socket.get_executor()) {}

    void start() {
        socket_->async_wait(
            boost::asio::ip::tcp::socket::wait_read,
            [self = shared_from_this()](boost::system::error_code error) { self->look(error); });
    }
    void stop() {
        socket_ = nullptr;
        timer_.cancel();
    }

  private:
    void look(boost::system::error_code error) {
        if (socket_ == nullptr) return;
        pollfd ask{socket_->native_handle(), POLLRDHUP, 0};
        const bool gone = ::poll(&ask, 1, 0) > 0 && ask.revents != 0;
        if (error || gone) {
            mailbox_->client_gone = true;
            mailbox_->wake();
            return;
        }
        timer_.expires_after(kGoneCheckTime);
        timer_.async_wait([self = shared_from_this()](boost::system::error_code cancelled) {
            if (!cancelled) self->look({});
        });
    }

    boost::asio::ip::tcp::socket* socket_;
    std::shared_ptr<Mailbox> mailbox_;
    boost::asio::steady_timer timer_;
};

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// A client of raw bytes.
#include "serve/http_client.h"

#include <arpa/inet.h>
#include <array>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"

namespace etalon::serve {

namespace {
constexpr int kPatienceMilliseconds = 5000;
}

RawClient::RawClient(std::uint16_t port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* generic = reinterpret_cast<const sockaddr*>(&address);
    ETALON_ASSERT(::connect(fd_, generic, sizeof address) == 0);
}

RawClient::~RawClient() {
    ::close(fd_);
}

void RawClient::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n <= 0) return;
        bytes.remove_prefix(static_cast<std::size_t>(n));
    }
}

std::string RawClient::read_until(std::string_view text) {
    std::string all;
    std::array<char, 65536> buffer{};
    while (text.empty() || all.find(text) == std::string::npos) {
        pollfd ask{fd_, POLLIN, 0};
        if (::poll(&ask, 1, kPatienceMilliseconds) <= 0) break;
        const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
        if (n <= 0) {
            at_end_ = true;
            break;
        }
        all.append(buffer.data(), static_cast<std::size_t>(n));
    }
    return all;
}

}  // namespace etalon::serve

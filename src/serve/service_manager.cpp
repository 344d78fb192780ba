// SPDX-License-Identifier: Apache-2.0
// One datagram a message. The socket is connected at once: later the front may neither connect nor
// send to an address.
#include "serve/service_manager.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/error.h"
#include "serve/log.h"

namespace etalon::serve {

namespace {

[[noreturn]] void fail(std::string_view name, const char* why) {
    throw Error(
        ExitCode::failure,
        fmt::format("cannot reach the service manager: {} ({})", why, printable(std::string(name))),
        "NOTIFY_SOCKET names its socket; without it nobody is told");
}

}  // namespace

ServiceManager::ServiceManager() {
    const char* variable = std::getenv("NOTIFY_SOCKET");
    const std::string_view name = variable == nullptr ? "" : variable;
    if (name.empty()) return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (name.front() != '/' && name.front() != '@') fail(name, "no path and no abstract name");
    if (name.size() >= sizeof address.sun_path) fail(name, "the name is too long");
    std::memcpy(address.sun_path, name.data(), name.size());
    if (name.front() == '@') address.sun_path[0] = '\0';  // how an abstract name begins
    fd_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
    const auto* generic = reinterpret_cast<const sockaddr*>(&address);
    if (fd_ >= 0 && ::connect(fd_, generic, size) == 0) return;
    const int error = errno;
    if (fd_ >= 0) ::close(fd_);
    fail(name, std::strerror(error));
}

ServiceManager::~ServiceManager() {
    if (fd_ >= 0) ::close(fd_);
}

void ServiceManager::say(std::string_view lines) const {
    if (fd_ < 0) return;
    // No waiting: a manager that reads nothing must not stop the server.
    const ssize_t n = ::send(fd_, lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0) log_note(fmt::format("the service manager: {}", std::strerror(errno)));
}

}  // namespace etalon::serve

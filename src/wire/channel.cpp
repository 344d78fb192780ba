// SPDX-License-Identifier: Apache-2.0
// Frames over a stream socket.
#include "wire/channel.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>

#include "base/error.h"
#include "wire/limits.h"

namespace etalon::wire {

namespace {

constexpr std::size_t kLengthBytes = 4;
/// One read: many small messages, and no more than the cache holds.
constexpr std::size_t kReadStep = std::size_t{1} << 16;

std::size_t length_of(std::string_view head) {
    std::size_t length = 0;
    for (std::size_t i = 0; i < kLengthBytes; ++i)
        length |= static_cast<std::size_t>(static_cast<unsigned char>(head[i])) << (8 * i);
    return length;
}

[[noreturn]] void fail(const char* what) {
    throw Error(ExitCode::failure, fmt::format("channel: {}: {}", what, std::strerror(errno)));
}

}  // namespace

Channel::Channel(int fd) : fd_(fd) {
    int type = 0;
    socklen_t size = sizeof(type);
    if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0) fail("this is no socket");
    if (type != SOCK_STREAM) {
        throw Error(ExitCode::failure, "channel: this is no stream socket");
    }
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) fail("O_NONBLOCK");
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) fail("FD_CLOEXEC");
}

Channel::Channel(Channel&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      peer_closed_(other.peer_closed_),
      out_(std::move(other.out_)),
      out_at_(std::exchange(other.out_at_, 0)),
      in_(std::move(other.in_)),
      in_at_(std::exchange(other.in_at_, 0)) {
    other.out_.clear();
    other.in_.clear();
}

Channel& Channel::operator=(Channel&& other) noexcept {
    std::swap(fd_, other.fd_);
    std::swap(peer_closed_, other.peer_closed_);
    std::swap(out_, other.out_);
    std::swap(out_at_, other.out_at_);
    std::swap(in_, other.in_);
    std::swap(in_at_, other.in_at_);
    return *this;
}

Channel::~Channel() {
    if (fd_ >= 0) ::close(fd_);
}

void Channel::push(const std::string& frame) {
    ETALON_ASSERT(!frame.empty() && frame.size() <= kFrameBytesMax);
    for (std::size_t i = 0; i < kLengthBytes; ++i)
        out_.push_back(static_cast<char>(frame.size() >> (8 * i) & 0xFF));
    out_ += frame;
    flush();
}

void Channel::flush() {
    while (n_queued() > 0) {
        const ssize_t n = ::send(fd_, out_.data() + out_at_, n_queued(), MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) break;
        // A peer that is gone takes nothing more; the reader sees the end of the stream.
        out_at_ = n < 0 ? out_.size() : out_at_ + static_cast<std::size_t>(n);
    }
    if (n_queued() > 0 && out_at_ < out_.size() / 2) return;
    out_.erase(0, out_at_);
    out_at_ = 0;
    // One long prompt must not keep its buffer for ever.
    if (out_.empty() && out_.capacity() > kReadBytesMax) out_ = {};
}

std::optional<std::string> Channel::next() {
    const std::string_view here = std::string_view(in_).substr(in_at_);
    if (here.size() < kLengthBytes) return std::nullopt;
    const std::size_t length = length_of(here);
    if (length == 0 || length > kFrameBytesMax) {
        throw Error(ExitCode::invalid,
                    fmt::format("frame: {} bytes, 1 to {}", length, kFrameBytesMax));
    }
    if (here.size() - kLengthBytes < length) return std::nullopt;
    std::string frame(here.substr(kLengthBytes, length));
    in_at_ += kLengthBytes + length;
    if (in_at_ == in_.size()) {
        in_.clear();
        in_at_ = 0;
        if (in_.capacity() > 2 * kReadBytesMax) in_ = {};
    } else if (in_at_ > in_.size() / 2) {
        in_.erase(0, in_at_);
        in_at_ = 0;
    }
    return frame;
}

void Channel::read() {
    if (peer_closed_) return;
    std::size_t n_read = 0;
    while (n_read < kReadBytesMax) {
        const std::size_t old_size = in_.size();
        in_.resize(old_size + kReadStep);
        iovec part{in_.data() + old_size, kReadStep};
        msghdr message{};
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        // No control buffer: the kernel drops descriptors that come along and says so.
        const ssize_t n = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
        const int error = errno;
        in_.resize(old_size + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
        if (n < 0 && error == EINTR) continue;
        if (n < 0 && (error == EAGAIN || error == EWOULDBLOCK)) return;
        // ECONNRESET: the peer died with our bytes unread. Both are the end of the stream.
        if (n <= 0) {
            peer_closed_ = true;
            return;
        }
        if ((message.msg_flags & MSG_CTRUNC) != 0) {
            throw Error(ExitCode::invalid, "frame: a descriptor came along; none is accepted");
        }
        n_read += static_cast<std::size_t>(n);
        if (static_cast<std::size_t>(n) < kReadStep) return;
    }
}

}  // namespace etalon::wire

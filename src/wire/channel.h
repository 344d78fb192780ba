// SPDX-License-Identifier: Apache-2.0
// Frames over a connected AF_UNIX stream socket, never waiting: a length of four bytes (little
// endian), then so many bytes. A stream and not SEQPACKET, because a prompt of a long context is
// larger than any socket buffer.
//
//   Channel channel(fd);            // owns fd
//   channel.push(encode(message));  // queues, and writes what the socket takes
//   channel.read();
//   while (auto frame = channel.next()) decode(*frame);
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace etalon::wire {

class Channel {
  public:
    /// Makes `fd` non-blocking and close-on-exec. Errors: failure (it is no stream socket).
    explicit Channel(int fd);
    Channel(Channel&& other) noexcept;
    Channel& operator=(Channel&& other) noexcept;
    ~Channel();

    int fd() const noexcept { return fd_; }

    /// Queues one frame of at most kFrameBytesMax and flushes. Once the peer is gone frames vanish.
    void push(const std::string& frame);
    /// Writes what the socket takes now.
    void flush();
    bool wants_write() const noexcept { return n_queued() > 0; }
    std::size_t n_queued() const noexcept { return out_.size() - out_at_; }  ///< bytes

    /// Reads what the socket has now, at most about kReadBytesMax. Errors: invalid (the peer sent a
    /// descriptor).
    void read();
    /// The next whole frame that was read. Errors: invalid (a frame is empty or over
    /// kFrameBytesMax).
    std::optional<std::string> next();
    /// The peer has closed its end or is dead: behind the last next() nothing more comes, and what
    /// it left of a frame is dropped.
    bool at_end() const noexcept { return peer_closed_; }

  private:
    int fd_ = -1;
    bool peer_closed_ = false;
    std::string out_;
    std::size_t out_at_ = 0;  // of the first byte that is not written
    std::string in_;
    std::size_t in_at_ = 0;  // of the first byte that is not taken
};

}  // namespace etalon::wire

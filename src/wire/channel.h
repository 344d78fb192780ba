// SPDX-License-Identifier: Apache-2.0
// Frames over a connected AF_UNIX stream socket, never waiting: a length of four bytes (little
// endian), then so many bytes. A stream and not SEQPACKET, because a prompt of a long context is
// larger than any socket buffer.
//
//   Channel channel(fd);            // owns fd
//   channel.push(encode(message));  // queues, and writes what the socket takes
//   while (auto frame = channel.pull()) decode(*frame);
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

    /// The next whole frame; reads from the socket when none is here, at most kReadBytesMax a call.
    /// nullopt: nothing now. Errors: invalid (a frame is empty or over kFrameBytesMax, the peer
    /// sent a descriptor, the stream ended within a frame).
    std::optional<std::string> pull();
    /// The peer has closed its end and every whole frame was pulled.
    bool at_end() const noexcept { return peer_closed_ && in_.size() == in_at_; }

  private:
    void read_some();
    std::optional<std::string> take_frame();

    int fd_ = -1;
    bool peer_closed_ = false;
    std::string out_;
    std::size_t out_at_ = 0;  // of the first byte that is not written
    std::string in_;
    std::size_t in_at_ = 0;  // of the first byte that is not taken
};

}  // namespace etalon::wire

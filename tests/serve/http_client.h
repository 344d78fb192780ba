// SPDX-License-Identifier: Apache-2.0
// A client that sends exactly the bytes that a test writes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace etalon::serve {

class RawClient {
  public:
    explicit RawClient(std::uint16_t port);
    ~RawClient();
    RawClient(const RawClient&) = delete;
    RawClient& operator=(const RawClient&) = delete;

    void send(std::string_view bytes);
    /// What came until `text` was in it, the server closed, or five seconds passed.
    std::string read_until(std::string_view text);
    /// Everything until the server closes.
    std::string read_all() { return read_until(""); }
    bool at_end() const { return at_end_; }

  private:
    int fd_;
    bool at_end_ = false;
};

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// Derives a sample of the answers again while the server still has them: once sealed, nobody here
// can open them. One of many is held, goes to the worker that gave it, and is computed when nobody
// waits for another; what comes back is a verdict, never a word of it (docs/replay.md).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "serve/dispatcher.h"

namespace etalon::serve {

struct HeldAnswer {
    std::uint64_t intent = 0;  ///< index of its record
    std::uint64_t choice = 0;
    std::string payload;  ///< as engine::write_payload() has it
};

/// The answers that wait to be derived again. Used by the server's thread alone.
class SelfChecks {
  public:
    /// One answer of `every` is held; 0: none.
    explicit SelfChecks(std::int64_t every) : every_(every) {}

    /// Counts an answer; true when it is its turn.
    bool is_due();
    /// Drops it where kHeldAnswersMax wait, it is over kHeldAnswerBytesMax, or a subject was erased
    /// since epoch() was `epoch`: it may be who the answer is about.
    void hold(const Dispatcher& dispatcher, HeldAnswer answer, std::uint64_t epoch);
    std::uint64_t epoch() const { return epoch_; }
    std::optional<HeldAnswer> take(const Dispatcher& dispatcher);
    /// A subject was erased: whose words are held is known to the ledger only.
    void forget() {
        ++epoch_;
        held_.clear();
    }

  private:
    std::int64_t every_;
    std::int64_t n_since_ = 0;
    std::uint64_t epoch_ = 0;
    std::map<const Dispatcher*, std::deque<HeldAnswer>> held_;
};

/// Runs as long as the server. `on_answer` gets what the worker said, Replayed or Refused; nothing
/// comes of an answer whose worker is lost. Dispatcher and checks outlive it.
boost::asio::awaitable<void> check_answers(
    boost::asio::io_context& io, Dispatcher& dispatcher, SelfChecks& checks,
    std::function<void(const HeldAnswer&, const wire::ToFront&)> on_answer);

}  // namespace etalon::serve

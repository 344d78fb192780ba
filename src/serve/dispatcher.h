// SPDX-License-Identifier: Apache-2.0
// Between HTTP requests and the worker of one model: sends what is asked, brings each message to
// the request that it belongs to, and starts the worker again when it dies.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "ledger/ledger.h"
#include "serve/worker_link.h"
#include "wire/messages.h"

namespace etalon::serve {

/// What has arrived for one HTTP request and was not looked at yet. One coroutine waits on it.
class Mailbox {
  public:
    struct Letter {
        std::size_t part = 0;
        wire::ToFront message;
    };

    explicit Mailbox(boost::asio::io_context& io) : timer_(io) {}

    std::deque<Letter> letters;
    /// What the ledger said of the request's intents, then of each part's complete record: why it
    /// is not there, nullopt where it is.
    std::optional<ledger::Began> began;
    struct Completed {
        std::size_t part = 0;
        std::optional<Error> error;
    };
    std::deque<Completed> completed;
    /// What the ledger said of a reading.
    std::optional<std::variant<ledger::StoredReading, Error>> recorded;
    bool worker_lost = false;  ///< no letter will come any more
    bool client_gone = false;  ///< nobody reads the answer

    /// True when there is something to look at.
    bool has_news() const {
        return !letters.empty() || began || !completed.empty() || recorded || worker_lost ||
               client_gone;
    }
    /// Runs `change` in the server's thread, then wakes; for other threads.
    static void post(const std::shared_ptr<Mailbox>& mailbox, std::function<void()> change);
    /// Returns when there is, or after `time`.
    boost::asio::awaitable<void> wait(std::chrono::steady_clock::duration time);
    /// Call after any of the above has changed.
    void wake() { timer_.cancel(); }

  private:
    boost::asio::steady_timer timer_;
};

class Dispatcher {
  public:
    struct Events {
        /// The worker is ready (its Hello), or no more (nullopt).
        std::function<void(const std::optional<wire::Hello>& hello)> on_state;
        /// The worker ended before it was ever ready: starting it again would not help.
        std::function<void(const Error& error)> on_hopeless;
        /// A worker that had been ready was lost.
        std::function<void(const Error& error)> on_lost;
        /// The worker has left after drain().
        std::function<void()> on_left;
    };

    Dispatcher(boost::asio::io_context& io, std::function<std::unique_ptr<Worker>()> start,
               Events events);
    ~Dispatcher();
    Dispatcher(const Dispatcher&) = delete;
    Dispatcher& operator=(const Dispatcher&) = delete;

    /// Starts the worker. Errors: those of starting a process.
    void start();

    /// Sends a question (any message that opens a request; its id is set here) and brings the
    /// answers to `mailbox` as those of `part`. Errors: ApiError 503 (no worker is ready), 429 (too
    /// much waits for it, or an AskLive while another is open), 400 (the message is too large).
    wire::RequestId ask(wire::ToWorker message, std::shared_ptr<Mailbox> mailbox, std::size_t part);
    /// Behind Prepared: compute.
    void go(wire::RequestId id);
    /// Nobody waits for the request any more: it is cancelled where that is possible. A request
    /// that has ended, or is not known, is none of our business.
    void abandon(wire::RequestId id);

    /// A worker takes work.
    bool is_ready() const { return is_ready_ && !draining_; }

    /// The worker is killed as one that was lost, and started again.
    void replace_worker(const Error& why);
    /// What the worker keeps of earlier prompts is zeroed. One that starts later has nothing.
    void forget();
    /// The worker finishes what runs and leaves; it is not started again.
    void drain();

  private:
    struct Open {
        std::shared_ptr<Mailbox> mailbox;  // null once abandoned
        std::size_t part = 0;
        bool can_cancel = false;
    };

    void launch();
    void launch_later();
    void await_readable();
    void await_writable();
    void read();
    void deliver(wire::ToFront message);
    void lose(const Error& error);
    void detach();
    void send(const wire::ToWorker& message);

    boost::asio::io_context& io_;
    std::function<std::unique_ptr<Worker>()> start_;
    Events events_;
    boost::asio::steady_timer restart_timer_;
    std::chrono::milliseconds restart_time_;
    std::unique_ptr<Worker> worker_;
    boost::asio::posix::stream_descriptor descriptor_;
    std::uint64_t generation_ = 0;  // of the worker: callbacks of an earlier one do nothing
    bool awaits_writable_ = false;
    bool is_ready_ = false;
    bool was_ready_ = false;
    bool draining_ = false;
    std::optional<wire::Failed> failed_;
    wire::RequestId last_id_ = 0;
    std::map<wire::RequestId, Open> open_;
    wire::RequestId live_ = 0;  ///< the AskLive that is open; 0: none
};

}  // namespace etalon::serve

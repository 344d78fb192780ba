// SPDX-License-Identifier: Apache-2.0
// One worker, many requests.
#include "serve/dispatcher.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/format.h>

#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace asio = boost::asio;
using boost::system::error_code;

namespace {

/// The id of a message to the front; 0 for Hello and Failed.
wire::RequestId id_of(const wire::ToFront& message) {
    return std::visit(
        [](const auto& one) -> wire::RequestId {
            if constexpr (requires { one.id; }) return one.id;
            return 0;
        },
        message);
}

bool is_last(const wire::ToFront& message) {
    return !std::holds_alternative<wire::Prepared>(message) &&
           !std::holds_alternative<wire::PromptLogprobs>(message) &&
           !std::holds_alternative<wire::Token>(message) &&
           !std::holds_alternative<wire::ChoiceEnd>(message);
}

}  // namespace

asio::awaitable<void> Mailbox::wait(std::chrono::steady_clock::duration time) {
    if (has_news()) co_return;
    timer_.expires_after(time);
    error_code cancelled;
    co_await timer_.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
}

void Mailbox::post(const std::shared_ptr<Mailbox>& mailbox, std::function<void()> change) {
    asio::post(mailbox->timer_.get_executor(), [mailbox, change = std::move(change)] {
        change();
        mailbox->wake();
    });
}

Dispatcher::Dispatcher(asio::io_context& io, std::function<std::unique_ptr<Worker>()> start,
                       Events events)
    : io_(io),
      start_(std::move(start)),
      events_(std::move(events)),
      restart_timer_(io),
      restart_time_(kRestartTimeMin),
      descriptor_(io) {}

Dispatcher::~Dispatcher() {
    detach();
}

void Dispatcher::start() {
    launch();
}

void Dispatcher::launch() {
    worker_ = start_();
    ++generation_;
    failed_.reset();
    descriptor_.assign(worker_->fd());
    await_readable();
    await_writable();
}

void Dispatcher::await_readable() {
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_read,
                           [this, generation = generation_](error_code error) {
                               if (error || generation != generation_) return;
                               read();
                           });
}

void Dispatcher::await_writable() {
    if (!worker_ || awaits_writable_ || !worker_->wants_write()) return;
    awaits_writable_ = true;
    descriptor_.async_wait(asio::posix::stream_descriptor::wait_write,
                           [this, generation = generation_](error_code error) {
                               if (error || generation != generation_) return;
                               awaits_writable_ = false;
                               worker_->flush();
                               await_writable();
                           });
}

void Dispatcher::read() {
    try {
        for (wire::ToFront& message : worker_->receive())
            deliver(std::move(message));
    } catch (const Error& error) {
        lose(error);
        return;
    }
    if (worker_->has_left()) {
        detach();
        if (events_.on_left) events_.on_left();
        return;
    }
    await_readable();
}

void Dispatcher::deliver(wire::ToFront message) {
    if (auto* hello = std::get_if<wire::Hello>(&message)) {
        is_ready_ = was_ready_ = true;
        restart_time_ = kRestartTimeMin;
        events_.on_state(std::move(*hello));
        return;
    }
    if (auto* failed = std::get_if<wire::Failed>(&message)) {
        failed_ = std::move(*failed);  // its end follows
        return;
    }
    const auto found = open_.find(id_of(message));
    // The wire library has checked that the request is open.
    ETALON_ASSERT(found != open_.end());
    const Open open = found->second;
    if (is_last(message)) {
        if (found->first == live_) live_ = 0;
        open_.erase(found);
    }
    if (!open.mailbox) return;
    open.mailbox->letters.push_back({open.part, std::move(message)});
    open.mailbox->wake();
}

void Dispatcher::detach() {
    ++generation_;
    awaits_writable_ = false;
    is_ready_ = false;
    // The worker owns the descriptor; it must not be watched any more when it closes it.
    if (descriptor_.is_open()) descriptor_.release();
    worker_.reset();
}

void Dispatcher::lose(const Error& error) {
    const std::optional<wire::Failed> failed = failed_;
    detach();
    for (auto& [id, open] : open_) {
        if (!open.mailbox) continue;
        open.mailbox->worker_lost = true;
        open.mailbox->wake();
    }
    open_.clear();
    live_ = 0;
    events_.on_state(std::nullopt);
    const Error told =
        failed ? Error(static_cast<ExitCode>(failed->exit_code), failed->message) : error;
    if (draining_) {
        if (events_.on_left) events_.on_left();
    } else if (!was_ready_) {
        events_.on_hopeless(told);
    } else {
        events_.on_lost(told);
        launch_later();
    }
}

void Dispatcher::launch_later() {
    restart_timer_.expires_after(restart_time_);
    restart_time_ = std::min(restart_time_ * 2, kRestartTimeMax);
    restart_timer_.async_wait([this](error_code error) {
        if (error || draining_) return;
        try {
            launch();
        } catch (const Error& reason) {
            events_.on_lost(reason);
            launch_later();
        }
    });
}

void Dispatcher::send(const wire::ToWorker& message) {
    worker_->send(message);
    await_writable();
}

wire::RequestId Dispatcher::ask(wire::ToWorker message, std::shared_ptr<Mailbox> mailbox,
                                std::size_t part) {
    if (!is_ready_ || draining_) throw unavailable("the model is loading or leaving");
    const bool is_live = std::holds_alternative<wire::AskLive>(message);
    if (is_live && live_ != 0) {  // each is a pass over all weights, and cannot be cancelled
        ApiError busy(429, "rate_limit_error", "worker_busy", "another live digest is computed");
        throw busy.with_header("retry-after", "5");
    }
    const wire::RequestId id = ++last_id_;
    std::visit(
        [&](auto& one) {
            if constexpr (requires { one.id; }) one.id = id;
        },
        message);
    const bool can_cancel = std::holds_alternative<wire::Prepare>(message) ||
                            std::holds_alternative<wire::Embed>(message);
    try {
        send(message);
    } catch (const Error& error) {
        if (error.code() == ExitCode::try_later) {
            ApiError busy(429, "rate_limit_error", "worker_busy", error.message());
            throw busy.with_header("retry-after", "5");
        }
        throw field_error("", error.message());
    }
    open_.emplace(id, Open{std::move(mailbox), part, can_cancel});
    if (is_live) live_ = id;
    return id;
}

void Dispatcher::go(wire::RequestId id) {
    if (open_.find(id) != open_.end()) send(wire::Go{id});
}

void Dispatcher::abandon(wire::RequestId id) {
    const auto found = open_.find(id);
    if (found == open_.end() || !found->second.mailbox) return;
    found->second.mailbox.reset();
    if (!found->second.can_cancel) return;
    try {
        send(wire::Cancel{id});
    } catch (const Error&) {
        // So much waits for a worker that reads nothing that it will be lost soon.
    }
}

void Dispatcher::replace_worker(const Error& why) {
    if (is_ready_ && !draining_) lose(why);
}

void Dispatcher::forget() {
    if (is_ready_) send(wire::Forget{});
}

void Dispatcher::drain() {
    draining_ = true;
    if (!worker_) {
        if (events_.on_left) asio::post(io_, events_.on_left);
        return;
    }
    send(wire::Drain{});
}

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// One answer at a time for each worker.
#include "serve/self_check.h"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <memory>
#include <utility>

#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace asio = boost::asio;

bool SelfChecks::is_due() {
    if (every_ == 0 || ++n_since_ < every_) return false;
    n_since_ = 0;
    return true;
}

void SelfChecks::hold(const Dispatcher& dispatcher, HeldAnswer answer, std::uint64_t epoch) {
    std::deque<HeldAnswer>& held = held_[&dispatcher];
    if (epoch != epoch_ || held.size() == kHeldAnswersMax) return;
    if (answer.payload.size() > kHeldAnswerBytesMax) return;
    held.push_back(std::move(answer));
}

std::optional<HeldAnswer> SelfChecks::take(const Dispatcher& dispatcher) {
    const auto found = held_.find(&dispatcher);
    if (found == held_.end() || found->second.empty()) return std::nullopt;
    HeldAnswer first = std::move(found->second.front());
    found->second.pop_front();
    return first;
}

asio::awaitable<void> check_answers(
    asio::io_context& io, Dispatcher& dispatcher, SelfChecks& checks,
    std::function<void(const HeldAnswer&, const wire::ToFront&)> on_answer) {
    for (;;) {
        asio::steady_timer timer(io, kSelfCheckPause);
        boost::system::error_code cancelled;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
        if (!dispatcher.is_ready()) continue;
        auto answer = checks.take(dispatcher);
        if (!answer) continue;
        const auto mailbox = std::make_shared<Mailbox>(io);
        try {
            dispatcher.ask(wire::AskReplay{0, std::move(answer->payload)}, mailbox, 0);
        } catch (const ApiError&) {
            continue;  // so much waits for the worker that this is no time for it
        }
        while (mailbox->letters.empty() && !mailbox->worker_lost)
            co_await mailbox->wait(kWorkerAnswerTime);
        if (!mailbox->letters.empty()) on_answer(*answer, mailbox->letters.front().message);
    }
}

}  // namespace etalon::serve

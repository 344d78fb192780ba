// SPDX-License-Identifier: Apache-2.0
// One nonce for each worker that was started.
#include "serve/weights_watch.h"

#include <array>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cstdint>
#include <memory>
#include <openssl/rand.h>
#include <optional>

#include "base/sha256.h"
#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace asio = boost::asio;

namespace {

std::string draw_nonce() {
    Sha256Digest bytes{};
    if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1) {
        throw Error(ExitCode::failure, "the system gives no random numbers");
    }
    return to_hex(bytes);
}

asio::awaitable<void> pause(asio::io_context& io, std::chrono::milliseconds time) {
    asio::steady_timer timer(io, time);
    boost::system::error_code cancelled;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
}

/// "": the worker is busy; nullopt: it was lost or takes no work.
asio::awaitable<std::optional<std::string>> live_digest(asio::io_context& io,
                                                        Dispatcher& dispatcher,
                                                        const std::string& nonce) {
    const auto mailbox = std::make_shared<Mailbox>(io);
    try {
        dispatcher.ask(wire::AskLive{0, nonce}, mailbox, 0);
    } catch (const ApiError& error) {
        if (error.status() == 429) co_return "";
        co_return std::nullopt;
    }
    while (mailbox->letters.empty()) {
        if (mailbox->worker_lost) co_return std::nullopt;
        co_await mailbox->wait(kWorkerAnswerTime);
    }
    const auto* live = std::get_if<wire::Live>(&mailbox->letters.front().message);
    if (live == nullptr) co_return std::nullopt;
    co_return live->digest;
}

}  // namespace

asio::awaitable<void> watch_weights(asio::io_context& io, Dispatcher& dispatcher,
                                    WeightsWatch watch) {
    WeightsCheck check{draw_nonce(), "", "first"};
    while (watch.is_wanted()) {
        const auto digest = co_await live_digest(io, dispatcher, check.nonce);
        if (!digest || !watch.is_wanted()) co_return;
        if (digest->empty()) {
            co_await pause(io, kLiveRetryTime);
            continue;
        }
        if (!check.digest.empty()) check.verdict = *digest == check.digest ? "same" : "changed";
        check.digest = *digest;
        watch.on_check(check);
        if (check.verdict == "changed") co_return;
        co_await pause(io, watch.period);
    }
}

}  // namespace etalon::serve

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

/// nullopt: the worker was lost or takes no work.
asio::awaitable<std::optional<std::string>> live_digest(asio::io_context& io,
                                                        Dispatcher& dispatcher,
                                                        const std::string& nonce) {
    const auto mailbox = std::make_shared<Mailbox>(io);
    try {
        dispatcher.ask(wire::AskLive{0, nonce}, mailbox, 0);
    } catch (const ApiError&) {
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
                                    std::chrono::milliseconds period,
                                    std::function<bool(const WeightsCheck& check)> on_check) {
    WeightsCheck check{draw_nonce(), "", "first"};
    asio::steady_timer timer(io);
    while (true) {
        const auto digest = co_await live_digest(io, dispatcher, check.nonce);
        if (!digest) co_return;
        if (!check.digest.empty()) check.verdict = *digest == check.digest ? "same" : "changed";
        check.digest = *digest;
        if (!on_check(check) || check.verdict == "changed") co_return;
        timer.expires_after(period);
        boost::system::error_code cancelled;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, cancelled));
    }
}

}  // namespace etalon::serve

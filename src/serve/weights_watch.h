// SPDX-License-Identifier: Apache-2.0
// Asks a worker for the live digest of its weights again and again, with the nonce that it was
// asked with first: the file had just been compared with its hash then (docs/live.md).
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <string>

#include "serve/dispatcher.h"

namespace etalon::serve {

struct WeightsCheck {
    std::string nonce;  ///< 64 hex digits, as is the digest
    std::string digest;
    std::string verdict;  ///< "first", "same", "changed"
};

struct WeightsWatch {
    std::chrono::milliseconds period{};  ///< between two checks
    /// False: the worker that was asked first is another one by now.
    std::function<bool()> is_wanted;
    std::function<void(const WeightsCheck& check)> on_check;
};

/// Runs until the worker is lost or replaced, or its weights have changed. The first check is made
/// now. The dispatcher outlives it.
boost::asio::awaitable<void> watch_weights(boost::asio::io_context& io, Dispatcher& dispatcher,
                                           WeightsWatch watch);

}  // namespace etalon::serve

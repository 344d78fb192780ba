// SPDX-License-Identifier: Apache-2.0
// A worker that answers by script. The text of the prompt says what it does:
//   "a b c"     one token a word, then stop
//   "refuse"    Refused
//   "forever"   tokens until it is cancelled
//   "silent"    prepared, then nothing until it is cancelled
//   "fail"      an answer that ends with an error
//   "die"       the worker is lost
#pragma once

#include <atomic>
#include <memory>

#include "serve/worker_link.h"

namespace etalon::serve {

/// What all workers of one server did; read by the thread of the test.
struct FakeLog {
    std::atomic<int> n_starts{0};
    std::atomic<int> n_cancels{0};
    std::atomic<int> n_ended{0};               ///< requests whose RequestEnd was sent
    std::atomic<int> n_live{0};                ///< live digests that were sent
    std::atomic<int> n_replays{0};             ///< the second one does not match
    std::atomic<bool> weights_changed{false};  ///< in the worker that runs now
};

/// Starts workers that write to `log`.
StartWorker fake_workers(std::shared_ptr<FakeLog> log);

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// The worker: closes the sandbox, loads the model, answers over the socket until the front leaves.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace etalon::worker {

struct WorkerOptions {
    int fd = -1;  ///< of the socket pair; becomes the worker's
    std::filesystem::path model;
    std::string backend = "cpu";  ///< "cpu", "exact", "cuda:N", or "auto": a card, else the CPU
    int threads = 0;
    int context = 0;
    std::uint64_t cache_bytes = 0;
    bool strict = false;  ///< a missing layer refuses to start (exit code 4)
    bool hash = false;
    std::filesystem::path public_key;  ///< not empty: only a signed model is read (exit code 4)
    std::filesystem::path record;      ///< of verified files; empty: hashed at every start
};

/// Runs until Drain is done or the front is gone; returns the exit code. What goes wrong is said to
/// the front with Failed and thrown: Error with the exit code. Called once, before the process has
/// a second thread. It ignores SIGINT, SIGTERM and SIGHUP, which a terminal and a service manager
/// send to the front's whole group: its life is the socket's.
int run_worker(const WorkerOptions& options);

}  // namespace etalon::worker

// SPDX-License-Identifier: Apache-2.0
// Counters and histograms in the text format of Prometheus.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/answer.h"

namespace etalon::serve {

/// Durations in buckets that double: 1 ms to about 17 minutes, then the rest.
class Histogram {
  public:
    void add(double seconds);
    /// Appends `name` with its HELP and TYPE lines.
    void print(std::string_view name, std::string_view help, std::string& out) const;

  private:
    static constexpr std::size_t kBuckets = 21;
    std::array<std::uint64_t, kBuckets + 1> counts_{};
    double sum_ = 0.0;
};

/// What the front counts; the worker's own counters are asked of it.
class Metrics {
  public:
    void request_ended(int status, const std::string& finish, double seconds);
    void answer_ended(const Usage& usage);
    void first_token(double seconds) { first_token_.add(seconds); }
    void worker_restarted() { ++n_restarts_; }
    /// "match", what differs, or "none" where no verdict came.
    void self_checked(const std::string& verdict) { ++self_checks_[verdict]; }
    void connection_opened() { ++n_connections_; }
    void connection_closed() { --n_connections_; }
    void answer_began() { ++n_running_; }
    void answer_left() { --n_running_; }

    std::int64_t n_connections() const { return n_connections_; }
    std::int64_t n_running() const { return n_running_; }

    /// `workers`: (model, counters) of each worker that answered.
    using WorkerCounters = std::vector<std::pair<std::string, double>>;
    std::string text(std::string_view version,
                     const std::vector<std::pair<std::string, WorkerCounters>>& workers) const;

  private:
    std::map<std::pair<int, std::string>, std::uint64_t> requests_;  // by status and finish reason
    Usage usage_;
    Histogram first_token_;
    Histogram whole_;
    Histogram queued_;
    std::int64_t n_connections_ = 0;
    std::int64_t n_running_ = 0;
    std::uint64_t n_restarts_ = 0;
    std::map<std::string, std::uint64_t> self_checks_;  // by verdict
};

}  // namespace etalon::serve

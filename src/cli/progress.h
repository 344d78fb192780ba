// SPDX-License-Identifier: Apache-2.0
// How far a long command is, on stderr, and Ctrl-C in the middle of it.
//   Progress progress("import");
//   work([&](std::uint64_t done, std::uint64_t total) { progress.show(done, total); });
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace etalon::cli {

/// A line that rewrites itself on a terminal; elsewhere a new line every few seconds.
class Progress {
  public:
    /// From here on Ctrl-C ends the work at the next show().
    explicit Progress(std::string name);
    ~Progress();
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    /// Errors: interrupted, thrown from here so that the work can remove unfinished files.
    void show(std::uint64_t done_bytes, std::uint64_t total_bytes);

  private:
    using Clock = std::chrono::steady_clock;

    std::string name_;
    bool terminal_;
    Clock::time_point next_;
    bool shown_ = false;
};

}  // namespace etalon::cli

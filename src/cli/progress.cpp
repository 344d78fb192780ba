// SPDX-License-Identifier: Apache-2.0
// How far a long command is.
#include "cli/progress.h"

#include <algorithm>
#include <cstdio>
#include <unistd.h>

#include "cli/interrupt.h"
#include "cli/output.h"

#include "base/error.h"

namespace etalon::cli {

namespace {

constexpr std::chrono::milliseconds kTerminalPeriod{200};
constexpr std::chrono::milliseconds kLogPeriod{5000};

}  // namespace

Progress::Progress(std::string name)
    : name_(std::move(name)),
      terminal_(::isatty(STDERR_FILENO) != 0),
      // Short work writes no line to a log.
      next_(Clock::now() + (terminal_ ? kTerminalPeriod : kLogPeriod)) {
    catch_interrupt();
}

Progress::~Progress() {
    if (shown_ && terminal_) std::fputs("\r\x1b[K", stderr);
}

void Progress::show(std::uint64_t done_bytes, std::uint64_t total_bytes) {
    if (is_interrupted()) throw Error(ExitCode::interrupted, "interrupted");
    const Clock::time_point now = Clock::now();
    if (now < next_) return;
    next_ = now + (terminal_ ? kTerminalPeriod : kLogPeriod);
    const double share = static_cast<double>(done_bytes) /
                         static_cast<double>(std::max<std::uint64_t>(total_bytes, 1));
    std::fprintf(stderr, "%s%s: %3.0f %% of %s%s", terminal_ ? "\r" : "", name_.c_str(),
                 100.0 * share, bytes_text(total_bytes).c_str(), terminal_ ? "" : "\n");
    std::fflush(stderr);
    shown_ = true;
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// Ctrl-C in the middle of a command: noticed, and acted on where the work can stop.
//   catch_interrupt();
//   while (!is_interrupted()) work();
#pragma once

namespace etalon::cli {

/// From here on SIGINT is only noted; calls of the system that wait for a person or a server end.
void catch_interrupt();

/// SIGINT came since catch_interrupt(), or since it was forgotten.
bool is_interrupted() noexcept;
void forget_interrupt() noexcept;

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// `etalon doctor --sandbox`: what the kernel enforces on a worker.
#pragma once

namespace etalon::cli {

/// Tries it with a process and prints it. Errors: invalid (an attempt got through a lock that is
/// said to be closed; printed first).
void report_sandbox(bool json);

}  // namespace etalon::cli

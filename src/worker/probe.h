// SPDX-License-Identifier: Apache-2.0
// What the kernel of this machine enforces on a worker, found out with one.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "worker/canaries.h"
#include "worker/sandbox.h"

namespace etalon::worker {

struct ProbeReport {
    Sandbox sandbox{{}};
    std::vector<Canary> canaries;
    /// The lines about locks in /proc/PID/status of the closed process, as the kernel has them.
    std::vector<std::pair<std::string, std::string>> status;

    /// The first canary that got through though its layer is on, or null.
    const Canary* escaped() const noexcept;
};

/// Forks a child that closes the sandbox as a worker does, tries the canaries and reports. The
/// caller has one thread. Errors: failure (the child died; the message says how).
ProbeReport probe_sandbox();

}  // namespace etalon::worker

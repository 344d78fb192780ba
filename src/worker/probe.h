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
    /// What came of computing behind the closed and sealed locks, on a card: "" where none was
    /// asked for.
    std::string computed;

    /// The first canary that got through though its layer is on, or null.
    const Canary* escaped() const noexcept;
};

/// Forks a child that closes the sandbox as a worker does, tries the canaries and reports; with a
/// `device` of "cuda:N" or "auto", with that card in use. The caller has one thread and has asked
/// no driver. Errors: failure (the child died, or the card cannot be used; the message says how).
ProbeReport probe_sandbox(const std::string& device = "cpu");

}  // namespace etalon::worker

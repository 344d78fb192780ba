// SPDX-License-Identifier: Apache-2.0
// `etalon doctor --sandbox`: what the kernel enforces on a worker; audit bundles hold it too.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "worker/probe.h"

namespace etalon::cli {

nlohmann::ordered_json to_json(const worker::ProbeReport& report);

/// Tries it with a process, with a card in use where `device` is "cuda:N" or "auto", and prints it.
/// Errors: invalid (an attempt got through a lock that is said to be closed; printed first).
void report_sandbox(const std::string& device, bool json);

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// Where this machine's ledger lies, and how long its payloads stay open.
#pragma once

#include <cstdint>

#include "ledger/ledger.h"
#include "ledger/retention.h"

namespace etalon::cli {

/// The folder `ledger` of the server's data.
ledger::LedgerOptions ledger_options();

/// The key `retention` of the configuration. Errors: usage.
ledger::Retention configured_retention();

/// Microseconds since 1970.
std::uint64_t unix_time_us();

}  // namespace etalon::cli

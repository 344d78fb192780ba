// SPDX-License-Identifier: Apache-2.0
// Where this machine's ledger lies, and how long its payloads stay open.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "ledger/ledger.h"
#include "ledger/retention.h"
#include "serve/config.h"

namespace etalon::cli {

/// `asked`, or where that is empty the folder `ledger` of the server's data.
std::filesystem::path ledger_folder(const std::string& asked);
/// This program writes in that folder.
ledger::LedgerOptions ledger_options(const std::string& asked = "");

/// The key `retention` of the configuration. Errors: usage.
ledger::Retention configured_retention();

/// The keys `stored_days` and `stored_responses`.
ledger::StoredLimits stored_limits(const serve::Config& config);

/// "2026-11-25" or "2026-11-25T08:30:00Z", of UTC, in microseconds since 1970. Errors: usage.
std::uint64_t time_us_of(const std::string& text);

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// Where this machine's ledger lies, and how long its payloads stay open.
#include "cli/ledger_place.h"

#include <chrono>
#include <ctime>
#include <fmt/format.h>

#include "base/clock.h"
#include "base/error.h"
#include "serve/config.h"

namespace etalon::cli {

std::filesystem::path ledger_folder(const std::string& asked) {
    return asked.empty() ? serve::data_folder() / "ledger" : std::filesystem::path(asked);
}

ledger::LedgerOptions ledger_options(const std::string& asked) {
    ledger::LedgerOptions options;
    options.folder = ledger_folder(asked);
    options.program = "etalon " ETALON_VERSION;
    return options;
}

ledger::Retention configured_retention() {
    std::vector<ledger::RetentionRule> rules;
    for (const std::string& text : serve::load_config().retention)
        rules.push_back(ledger::parse_retention_rule(text));
    return ledger::Retention(std::move(rules));
}

ledger::StoredLimits stored_limits(const serve::Config& config) {
    return {static_cast<std::uint64_t>(config.stored_days),
            static_cast<std::uint64_t>(config.stored_responses)};
}

std::uint64_t time_us_of(const std::string& text) {
    std::tm time{};
    const char* end = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time);
    if (end == nullptr) {
        time = {};
        end = ::strptime(text.c_str(), "%Y-%m-%d", &time);
    }
    const std::time_t seconds = end != nullptr && *end == '\0' ? ::timegm(&time) : -1;
    if (seconds < 0) {
        throw Error(ExitCode::usage, fmt::format("{} is no time", printable(text)),
                    "as in 2026-11-25 or 2026-11-25T08:30:00Z");
    }
    return static_cast<std::uint64_t>(seconds) * kSecondUs;
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// Where this machine's ledger lies, and how long its payloads stay open.
#include "cli/ledger_place.h"

#include <chrono>

#include "serve/config.h"

namespace etalon::cli {

ledger::LedgerOptions ledger_options() {
    ledger::LedgerOptions options;
    options.folder = serve::data_folder() / "ledger";
    options.program = "etalon " ETALON_VERSION;
    return options;
}

ledger::Retention configured_retention() {
    std::vector<ledger::RetentionRule> rules;
    for (const std::string& text : serve::load_config().retention)
        rules.push_back(ledger::parse_retention_rule(text));
    return ledger::Retention(std::move(rules));
}

std::uint64_t unix_time_us() {
    return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::microseconds>(
                                          std::chrono::system_clock::now().time_since_epoch())
                                          .count());
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// `etalon ledger review`: a person's judgement of an answer becomes a record.
#pragma once

namespace CLI {
class App;
}

namespace etalon::cli {

/// Below the command `ledger`.
void add_review(CLI::App& ledger_command);

}  // namespace etalon::cli

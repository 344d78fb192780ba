// SPDX-License-Identifier: Apache-2.0
// The ledger of answers that are given without a server: the user's own. It has the records of a
// server's, and the same rule: no record, no answer.
//
//   AnswerLedger ledger(folder, load);
//   ledger.begin(payload);            // throws: nothing may be computed
//   ledger.complete(payload, text);   // with the answer, however it ended
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "engine/payload.h"
#include "ledger/ledger.h"

namespace etalon::cli {

class AnswerLedger {
  public:
    /// `asked`: a folder; empty: the ledger of the user's data, and where a server writes that one
    /// now, the folder `ledger-run` beside it, which is said on stderr. Others may write it too.
    /// Errors: those of ledger::Ledger, the message says that no answer is given.
    explicit AnswerLedger(const std::string& asked);

    /// The model of the answers to come; recorded with the first of them.
    void set_model(ledger::ModelLoad load) { load_ = std::move(load); }
    /// The intent is on disk when this returns. The payload has no answer yet. Errors: as above.
    void begin(const engine::Payload& payload);
    /// So is the complete record, and the answer is sealed. `text`: as it was shown. Errors: those
    /// of ledger::Ledger.
    void complete(const engine::Payload& payload, const std::string& text);

  private:
    std::unique_ptr<ledger::Ledger> ledger_;
    ledger::ModelLoad load_;
    bool is_loaded_ = false;
    ledger::RequestIntent request_;  // what all requests have
    std::uint64_t intent_ = 0;
};

}  // namespace etalon::cli

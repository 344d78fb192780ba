// SPDX-License-Identifier: Apache-2.0
// The answers that a replay is asked for: files of payloads, records of this machine's ledger,
// receipts of it.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/auditor.h"

#include "base/sha256.h"
#include "engine/payload.h"

namespace etalon::cli {

/// An answer in this machine's ledger.
struct RecordedAnswer {
    std::uint64_t intent = 0;  ///< index
    std::uint64_t choice = 0;
};

struct PayloadSource {
    std::string label;                       ///< the file, or "record 17"
    std::optional<RecordedAnswer> recorded;  ///< nullopt: of a file
    /// Errors: those of read_payload_file and of ledger::OwnPayloads::open.
    std::function<std::pair<engine::Payload, Sha256Digest>()> read;
};

struct PayloadChoice {
    /// Files, folders of *.json, indices of intents, receipts; empty: every answer of the ledger.
    std::vector<std::string> names;
    std::string sample;      ///< as "1%"; empty: all
    std::uint64_t seed = 0;  ///< of the sample
    bool has_seed = false;
    AuditorOptions auditor;
};

/// What is chosen. That payloads of the ledger are opened is a record before this returns. Errors:
/// usage, not_found, invalid (a receipt that is not of this ledger), refused.
std::vector<PayloadSource> choose_payloads(const PayloadChoice& choice);

}  // namespace etalon::cli

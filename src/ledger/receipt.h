// SPDX-License-Identifier: Apache-2.0
// Receipts (docs/ledger.md section 5): both records of an answer, the proofs that they are in the
// log, and the commit key.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "ledger/ledger.h"
#include "ledger/subjects.h"
#include "tlog/policy.h"

namespace etalon::ledger {

/// "rcp-INDEX-" and 32 hex digits that only the folder's owner can make.
std::string receipt_id(const Subjects& subjects, std::uint64_t intent, std::string_view tenant);
/// The index in an id of this tenant; nullopt: it is none.
std::optional<std::uint64_t> intent_of_receipt(const Subjects& subjects, const std::string& id,
                                               std::string_view tenant);

/// The commit key of an intent: every subject's key is needed.
Key derive_commit_key(const std::vector<Subject>& subjects, std::string_view request,
                      std::uint64_t part);

/// What the holder of a receipt has of one part; empty: not looked at.
struct HeldPart {
    std::vector<std::string> texts;     ///< by choice
    std::vector<std::string> payloads;  ///< by choice
};
struct Held {
    std::optional<std::string> body;
    std::vector<HeldPart> parts;
};

struct VerifiedReceipt {
    struct Part {
        Record intent;
        Record complete;
    };
    std::vector<Part> parts;
    tlog::Checkpoint checkpoint;  ///< the newest of its proofs
    std::set<std::string> notes;  ///< the signed checkpoints of its proofs
    std::string stamp;            ///< DER; nobody has verified it; empty: there is none
};

/// All steps of section 5. The text may be hostile. Errors: invalid (the first step that fails).
VerifiedReceipt verify_receipt(std::string_view json, const tlog::Policy& policy, const Held& held);

}  // namespace etalon::ledger

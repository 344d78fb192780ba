// SPDX-License-Identifier: Apache-2.0
// A sealed payload between the store and its reader, compared with its records on both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "ledger/payload_store.h"
#include "ledger/record.h"
#include "ledger/seal.h"
#include "ledger/subjects.h"

namespace etalon::ledger {

/// The payload of intent `index` without its wraps. nullopt: a subject was erased, or there is no
/// payload any more. Errors: invalid (it is not the recorded one).
std::optional<SealedPayload> sealed_answer(const Subjects& subjects, const PayloadStore& payloads,
                                           std::uint64_t index, const Intent& intent,
                                           const Complete& complete);

/// The plaintext, which has the recorded commitments. Errors: refused (it is sealed to others),
/// invalid.
std::string open_answer(const SealContext& context, const Intent& intent, const Complete& complete,
                        const SealedPayload& sealed, const AuditorKey& key);

}  // namespace etalon::ledger

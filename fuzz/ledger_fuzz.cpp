// SPDX-License-Identifier: Apache-2.0
// Records, manifests of bundles, receipts, stored payloads and responses, journals of erasures: the
// first byte chooses. What is accepted is written again as the same bytes.
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "ledger/erase_journal.h"
#include "ledger/internal/manifest.h"
#include "ledger/payload_store.h"
#include "ledger/receipt.h"
#include "ledger/record.h"
#include "ledger/response_store.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    try {
        if (data[0] == 'r') {
            const etalon::ledger::Record record = etalon::ledger::parse_record(text);
            if (std::holds_alternative<etalon::ledger::Unknown>(record.body)) return 0;
            ETALON_ASSERT(etalon::ledger::write_record(record) == text);
        } else if (data[0] == 'm') {
            ETALON_ASSERT(etalon::ledger::manifest_text(etalon::ledger::parse_manifest(text)) ==
                          text);
        } else if (data[0] == 's') {
            const auto stored = etalon::ledger::parse_stored_payload(text);
            const std::size_t n_line = text.find('\n') + 1;
            ETALON_ASSERT(stored.wrapped + stored.ciphertext == text.substr(n_line));
        } else if (data[0] == 'p') {
            const auto response = etalon::ledger::parse_sealed_response(text);
            ETALON_ASSERT(etalon::ledger::sealed_response_text(response) == text);
        } else if (data[0] == 'j') {
            for (const auto& erased : etalon::ledger::parse_erase_journal(text))
                ETALON_ASSERT(erased.id.size() == etalon::ledger::kIdDigits);
        } else {
            (void)etalon::ledger::verify_receipt(text, etalon::tlog::Policy{}, {});
        }
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}

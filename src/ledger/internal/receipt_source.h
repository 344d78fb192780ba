// SPDX-License-Identifier: Apache-2.0
// What a receipt is made from.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "ledger/internal/completions.h"
#include "ledger/ledger.h"
#include "ledger/subjects.h"
#include "tlog/note.h"
#include "tlog/tile_reader.h"

namespace etalon::ledger {

struct ReceiptSource {
    const std::filesystem::path& folder;  ///< of the ledger
    const tlog::FileSource& files;
    const tlog::VerifierKey& log_key;
    const Subjects& subjects;
    const Completions& completions;
    std::uint64_t boot = 0;  ///< of the process that writes now
};

/// `first`: index of the intent of part 0. Errors: invalid (files of the log).
ReceiptResult make_receipt(const ReceiptSource& source, const std::string& id, std::uint64_t first);

}  // namespace etalon::ledger

// SPDX-License-Identifier: Apache-2.0
// Records of the ledger for people.
#pragma once

#include <string>

#include "ledger/record.h"

namespace etalon::cli {

/// What one line says of a record beside its index, time and kind. The record may be hostile: the
/// text is printable where the record is.
std::string record_summary(const ledger::Record& record);

/// "2026-11-25T08:30:00Z".
std::string time_text(std::uint64_t time_us);

}  // namespace etalon::cli

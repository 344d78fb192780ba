// SPDX-License-Identifier: Apache-2.0
// The key that signs a ledger's log: keys/log.key in its folder.
#pragma once

#include <filesystem>
#include <string>

#include "tlog/note.h"

namespace etalon::ledger {

/// Errors: not_found, refused (others may read it), invalid.
tlog::SigningKey read_log_key(const std::filesystem::path& ledger_folder);

/// The same; makes the key first where there is none. Its name, the log's origin, begins with
/// `origin_start`. Errors: failure, and as above.
tlog::SigningKey read_or_make_log_key(const std::filesystem::path& ledger_folder,
                                      const std::string& origin_start);

}  // namespace etalon::ledger

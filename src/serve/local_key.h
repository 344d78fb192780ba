// SPDX-License-Identifier: Apache-2.0
// The key of whoever owns this machine's account: made once, kept in a file that only they read.
#pragma once

#include <filesystem>
#include <optional>

#include "serve/accounts.h"

namespace etalon::serve {

/// local.key in config_folder().
std::filesystem::path local_key_path();

/// Keeps the key in `path` if `accounts` still knows it; else makes one (tenant "local", every
/// scope) and writes it there with mode 0600. Errors: failure (the file cannot be written), those
/// of Accounts.
/// Returns the key where it was made now.
std::optional<KeyInfo> ensure_local_key(Accounts& accounts, const std::filesystem::path& path,
                                        std::int64_t now);

/// The key in the file. Errors: not_found (no server was started here), invalid (it is no key).
std::string read_local_key(const std::filesystem::path& path);

}  // namespace etalon::serve

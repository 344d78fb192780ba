// SPDX-License-Identifier: Apache-2.0
// What is kept of a run beside its records, for audit bundles: the locks of the worker that loaded
// a model, as it told them. Files log/sandbox/LOAD.txt of the ledger, which nobody signs.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace etalon::ledger {

/// `load`: the index of the worker's model_load record. Errors: failure.
void keep_sandbox(const std::filesystem::path& ledger_folder, std::uint64_t load,
                  std::string_view text);

/// nullopt: none was kept. Errors: invalid (it is over kSandboxBytesMax), failure.
std::optional<std::string> kept_sandbox(const std::filesystem::path& ledger_folder,
                                        std::uint64_t load);

}  // namespace etalon::ledger

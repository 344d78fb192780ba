// SPDX-License-Identifier: Apache-2.0
#include "ledger/run_evidence.h"

#include <fmt/format.h>

#include "base/file.h"
#include "ledger/internal/files.h"
#include "ledger/limits.h"

namespace etalon::ledger {

namespace {

std::filesystem::path sandbox_file(const std::filesystem::path& ledger_folder, std::uint64_t load) {
    return ledger_folder / "log" / "sandbox" / fmt::format("{}.txt", load);
}

}  // namespace

void keep_sandbox(const std::filesystem::path& ledger_folder, std::uint64_t load,
                  std::string_view text) {
    const std::filesystem::path file = sandbox_file(ledger_folder, load);
    make_private_folder(file.parent_path());
    (void)write_new_file(file, text.substr(0, kSandboxBytesMax));
}

std::optional<std::string> kept_sandbox(const std::filesystem::path& ledger_folder,
                                        std::uint64_t load) {
    const std::filesystem::path file = sandbox_file(ledger_folder, load);
    if (!std::filesystem::is_regular_file(file)) return std::nullopt;
    return read_file(file, kSandboxBytesMax);
}

}  // namespace etalon::ledger

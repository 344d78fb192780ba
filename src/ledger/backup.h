// SPDX-License-Identifier: Apache-2.0
// Backups of a ledger in two parts: the data (log, payloads, certificates), which may be kept for
// years and which nobody opens without keys, and the keys, which are kept for days and are listed.
// Restoring one never brings an erased key back as long as a later journal of erasures is at hand.
//
// A backup is a folder; its MANIFEST is one JSON object in a line, then "SHA256 BYTES PATH" for
// each other file, by ascending path:
//   {"expires_us":1700604800000000,"kind":"keys","made_us":1700000000000000,"v":1}
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::ledger {

struct BackupInfo {
    std::string kind;  ///< "data", "keys"
    std::uint64_t made_us = 0;
    std::uint64_t expires_us = 0;  ///< of keys; 0: never
    std::uint64_t n_files = 0;
};

/// Copies log (with what witnesses and authorities signed), policy, payloads, certificates, the
/// journal of erasures and the list of the keys' backups into `out`, which must not exist,
/// while the ledger may be in use: all that its checkpoint covers at that moment. No key is in it.
/// `extra`: files (name in the backup, where it lies) to put beside them. Errors: usage (`out` is
/// there), not_found (no ledger), failure.
struct ExtraFile {
    std::string name;
    std::filesystem::path path;
};
BackupInfo back_up_data(const std::filesystem::path& ledger_folder,
                        const std::filesystem::path& out, const std::vector<ExtraFile>& extra,
                        std::uint64_t now_us);

/// Copies the subjects' keys, the holds and the local auditor's key. It is not restored after
/// `days` in [1, kKeyBackupDaysMax], and stands in key_backups() from before the first key is
/// copied. The log's own key is in no backup: a restored ledger begins a new log.
BackupInfo back_up_keys(const std::filesystem::path& ledger_folder,
                        const std::filesystem::path& out, std::uint64_t days, std::uint64_t now_us);

struct KeyBackup {
    std::string folder;  ///< where it was written
    std::uint64_t made_us = 0;
    std::uint64_t expires_us = 0;
};
/// Every backup of keys that was made of this ledger. Errors: invalid.
std::vector<KeyBackup> key_backups(const std::filesystem::path& ledger_folder);

/// Checks every file against the MANIFEST. The folder may be hostile. Errors: invalid.
BackupInfo verify_backup(const std::filesystem::path& folder);

struct RestoreSources {
    std::filesystem::path data;
    std::optional<std::filesystem::path> keys;     ///< without it nothing opens
    std::optional<std::filesystem::path> journal;  ///< "erased" of a later backup or disk
};
struct RestoreReport {
    std::filesystem::path previous;  ///< where the former log and its payloads are now
    std::size_t n_erased = 0;        ///< keys of the backup that the journals say were erased
};
/// Makes `ledger_folder`, which must not exist. The former log is kept below previous/, whole; the
/// next program that opens the ledger begins a new log with another origin, since the former one
/// may have grown behind the backup. A crash leaves no ledger or the whole one. Errors: usage
/// (`ledger_folder` is there), refused (the backup of the keys has expired), invalid, failure.
RestoreReport restore_backup(const RestoreSources& sources,
                             const std::filesystem::path& ledger_folder, std::uint64_t now_us);

}  // namespace etalon::ledger

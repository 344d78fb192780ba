// SPDX-License-Identifier: Apache-2.0
// Backups of a ledger, and what of them comes back.
#include "ledger/backup.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "ledger/internal/crypto.h"
#include "ledger/internal/files.h"
#include "ledger/internal/manifest.h"
#include "ledger/internal/subject_use.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/subjects.h"
#include "tlog/note.h"
#include "tlog/policy.h"

namespace etalon::ledger {

namespace {

namespace fs = std::filesystem;

constexpr const char* kManifest = "MANIFEST";
constexpr const char* kList = "key-backups";
constexpr std::uint64_t kBackupVersion = 1;

/// Copies whole files, so that content and name are on disk behind finish().
class Copier {
  public:
    void file(const fs::path& from, const fs::path& to, std::size_t bytes_max) {
        make_private_folder(to.parent_path());
        write_file(to, read_file(from, bytes_max));
        written_.push_back(to);
        if (written_.size() >= kSyncedAtOnce) finish();
    }
    /// All files below `from`; nothing where there is no such folder. A log that grows replaces a
    /// tile by a wider one: what is gone when it is read has its successor in a later pass. Errors:
    /// failure (kPassesMax were not enough), those of file().
    void tree(const fs::path& from, const fs::path& to, std::size_t bytes_max) {
        if (!fs::is_directory(from)) return;
        make_private_folder(to);
        // What goes behind a pass that lost nothing had its successor before the next one began.
        bool was_whole = false;
        for (int pass = 0; pass < kPassesMax; ++pass) {
            const bool is_whole = copy_new(from, to, bytes_max);
            if (is_whole && was_whole) return;
            was_whole = is_whole;
        }
        throw Error(ExitCode::failure,
                    fmt::format("{} changes faster than it is copied", printable(from.string())));
    }
    void finish() { sync_files(std::exchange(written_, {})); }

  private:
    static constexpr std::size_t kSyncedAtOnce = 1000;
    static constexpr int kPassesMax = 100;

    /// A file that was still being written has another size by now.
    static bool is_copied(const fs::directory_entry& entry, const fs::path& target) {
        std::error_code error;
        const std::uintmax_t bytes = fs::file_size(target, error);
        return !error && bytes == entry.file_size(error) && !error;
    }

    /// One pass over the files that are not copied yet; false: one vanished meanwhile.
    bool copy_new(const fs::path& from, const fs::path& to, std::size_t bytes_max) {
        std::error_code error;
        fs::recursive_directory_iterator entry(from, error);
        for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
            const fs::path& path = entry->path();
            const fs::path target = to / path.lexically_relative(from);
            std::error_code unknown;
            const bool is_file = entry->is_regular_file(unknown) && !entry->is_symlink(unknown);
            if (!is_file || is_copied(*entry, target)) continue;
            try {
                file(path, target, bytes_max);
            } catch (const Error& missing) {
                if (missing.code() == ExitCode::not_found) return false;
                throw;
            }
        }
        if (error && error != std::errc::no_such_file_or_directory) {
            throw Error(ExitCode::failure, fmt::format("cannot read {}: {}",
                                                       printable(from.string()), error.message()));
        }
        return !error;
    }

    std::vector<fs::path> written_;
};

std::string file_lines(const fs::path& folder) {
    std::string lines;
    for (const auto& [path, file] : hash_folder(folder))
        lines += fmt::format("{} {} {}\n", file.sha256, file.bytes, path);
    return lines;
}

/// The last file that is written: a backup that a crash cut off has none.
BackupInfo write_manifest(const fs::path& folder, BackupInfo info) {
    const std::string lines = file_lines(folder);
    info.n_files = static_cast<std::uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
    const std::string head = Members()
                                 .add("expires_us", info.expires_us)
                                 .add("kind", info.kind)
                                 .add("made_us", info.made_us)
                                 .add("v", kBackupVersion)
                                 .text();
    if (!write_new_file(folder / kManifest, head + "\n" + lines)) {
        throw Error(ExitCode::failure,
                    fmt::format("another program writes {} too", printable(folder.string())));
    }
    return info;
}

void begin_backup(const fs::path& ledger_folder, const fs::path& out) {
    if (!fs::is_directory(ledger_folder / "keys")) {
        throw Error(ExitCode::not_found,
                    fmt::format("there is no ledger in {}", printable(ledger_folder.string())));
    }
    if (fs::exists(out)) {
        throw Error(ExitCode::usage, fmt::format("{} is there already", printable(out.string())),
                    "a backup is a new folder");
    }
    make_private_folder(out);
}

std::string list_line(const KeyBackup& backup) {
    return Members()
               .add("expires_us", backup.expires_us)
               .add("folder", plain(backup.folder))
               .add("made_us", backup.made_us)
               .text() +
           "\n";
}

/// The former log with its payloads, certificates and checkpoint, under the name of its origin.
fs::path put_previous(Copier& copier, const fs::path& data, const fs::path& target) {
    copier.tree(data / kPreviousFolder, target / kPreviousFolder,
                kPayloadBytesMax + kEnvelopeBytesMax);
    if (!fs::exists(data / "log" / "checkpoint")) return {};
    const std::string note = read_file(data / "log" / "checkpoint", kPemBytesMax);
    const std::string origin = note.substr(0, note.find('\n'));
    const std::string name = sha256_hex(origin).substr(0, kPreviousDigits);
    const fs::path previous = target / kPreviousFolder / name;
    // Of that log: the next one has another key.
    if (fs::exists(data / kPolicyFile)) {
        copier.file(data / kPolicyFile, previous / kPolicyFile, tlog::kPolicyBytesMax);
    }
    for (const char* part : {"log", "payloads", "auditors"})
        copier.tree(data / part, previous / part, kPayloadBytesMax + kEnvelopeBytesMax);
    return fs::path(kPreviousFolder) / name;
}

void put_keys(Copier& copier, const fs::path& keys, const fs::path& target) {
    copier.tree(keys / "subjects", target / "keys" / "subjects", kPemBytesMax);
    if (!fs::exists(keys / kLocalAuditorKey)) return;
    copier.file(keys / kLocalAuditorKey, target / kLocalAuditorKey, kPemBytesMax);
}

BackupInfo verify_kind(const fs::path& folder, const char* kind) {
    BackupInfo info = verify_backup(folder);
    if (info.kind == kind) return info;
    throw Error(ExitCode::usage, fmt::format("{} is a backup of {}, not of {}",
                                             printable(folder.string()), info.kind, kind));
}

void check_expiry(const fs::path& keys, const BackupInfo& info, std::uint64_t now_us) {
    if (info.expires_us > now_us) return;
    throw Error(ExitCode::refused,
                fmt::format("the backup of the keys has expired ({})", printable(keys.string())),
                "delete it: it may hold keys of subjects that were erased since");
}

}  // namespace

BackupInfo back_up_data(const fs::path& ledger_folder, const fs::path& out,
                        const std::vector<ExtraFile>& extra, std::uint64_t now_us) {
    begin_backup(ledger_folder, out);
    Copier copier;
    // The checkpoint comes first: whatever it covers is on disk, and what comes later may be cut.
    const fs::path log = ledger_folder / "log";
    if (fs::exists(log / "checkpoint")) {
        copier.file(log / "checkpoint", out / "log" / "checkpoint", kPemBytesMax);
    }
    const std::size_t bytes_max = kPayloadBytesMax + kEnvelopeBytesMax;
    if (fs::exists(log / kCosigned)) {
        copier.file(log / kCosigned, out / "log" / kCosigned, tlog::kNoteBytesMax);
    }
    for (const char* part : {"tile", "stamps", "sandbox"})
        copier.tree(log / part, out / "log" / part, bytes_max);
    if (fs::exists(ledger_folder / kPolicyFile)) {
        copier.file(ledger_folder / kPolicyFile, out / kPolicyFile, tlog::kPolicyBytesMax);
    }
    // Which copies of keys are somewhere: an erasure must name them behind a restore too.
    if (fs::exists(ledger_folder / "keys" / kList)) {
        copier.file(ledger_folder / "keys" / kList, out / kList, kJournalBytesMax);
    }
    for (const char* part : {"payloads", "auditors", kPreviousFolder})
        copier.tree(ledger_folder / part, out / part, bytes_max);
    const fs::path journal = ledger_folder / "keys" / "subjects" / "erased";
    if (fs::exists(journal)) copier.file(journal, out / "erased", kJournalBytesMax);
    for (const ExtraFile& file : extra)
        copier.file(file.path, out / file.name, bytes_max);
    copier.finish();
    return write_manifest(out, {"data", now_us, 0, 0});
}

BackupInfo back_up_keys(const fs::path& ledger_folder, const fs::path& out, std::uint64_t days,
                        std::uint64_t now_us) {
    if (days < 1 || days > kKeyBackupDaysMax) {
        throw Error(ExitCode::usage,
                    fmt::format("a backup of keys is kept for 1 to {} days", kKeyBackupDaysMax));
    }
    begin_backup(ledger_folder, out);
    const std::uint64_t expires_us = now_us + days * kDayUs;
    const fs::path list = ledger_folder / "keys" / kList;
    std::string text = fs::exists(list) ? read_private_file(list, kJournalBytesMax) : "";
    text += list_line({fs::absolute(out).string(), now_us, expires_us});
    write_file(list.string() + ".new", text);
    sync_files({list.string() + ".new"});
    fs::rename(list.string() + ".new", list);
    sync_folder(list.parent_path());

    Copier copier;
    const fs::path subjects = ledger_folder / "keys" / "subjects";
    for (const char* part : {"ids", "names", "past", "holds"})
        copier.tree(subjects / part, out / "subjects" / part, kPemBytesMax);
    for (const char* part : {"secret", "erased"}) {
        if (!fs::exists(subjects / part)) continue;
        copier.file(subjects / part, out / "subjects" / part, kJournalBytesMax);
    }
    if (fs::exists(ledger_folder / kLocalAuditorKey)) {
        copier.file(ledger_folder / kLocalAuditorKey, out / kLocalAuditorKey, kPemBytesMax);
    }
    copier.finish();
    return write_manifest(out, {"keys", now_us, expires_us, 0});
}

std::vector<KeyBackup> key_backups(const fs::path& ledger_folder) {
    std::vector<KeyBackup> all;
    const fs::path list = ledger_folder / "keys" / kList;
    if (!fs::exists(list)) return all;
    const std::string text = read_private_file(list, kJournalBytesMax);
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        const Object object = parse_object(std::string_view(text).substr(begin, end - begin));
        Taker taker(object, "backup of keys");
        KeyBackup backup;
        backup.expires_us = taker.integer("expires_us");
        backup.folder = taker.text("folder");
        backup.made_us = taker.integer("made_us");
        taker.end();
        all.push_back(std::move(backup));
        begin = end + 1;
    }
    return all;
}

BackupInfo verify_backup(const fs::path& folder) {
    const std::string name = printable(folder.string());
    const std::string text = read_file(folder / kManifest, kManifestBytesMax);
    const std::size_t end = text.find('\n');
    if (end == std::string::npos) {
        throw Error(ExitCode::invalid, fmt::format("{} has a MANIFEST that is cut off", name));
    }
    const Object object = parse_object(std::string_view(text).substr(0, end));
    Taker taker(object, "MANIFEST");
    BackupInfo info;
    info.expires_us = taker.integer("expires_us");
    info.kind = taker.text("kind");
    info.made_us = taker.integer("made_us");
    if (taker.integer("v") != kBackupVersion) taker.refuse("v", "is not known");
    if (info.kind != "data" && info.kind != "keys") taker.refuse("kind", "is not known");
    taker.end();
    const std::string lines = file_lines(folder);
    if (text.compare(end + 1, std::string::npos, lines) != 0) {
        throw Error(ExitCode::invalid,
                    fmt::format("the files of {} are not those of its MANIFEST", name));
    }
    info.n_files = static_cast<std::uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
    return info;
}

RestoreReport restore_backup(const RestoreSources& sources, const fs::path& ledger_folder,
                             std::uint64_t now_us) {
    if (fs::exists(ledger_folder)) {
        throw Error(ExitCode::usage,
                    fmt::format("{} is there already", printable(ledger_folder.string())),
                    "move it away; its keys/subjects/erased is the --journal");
    }
    (void)verify_kind(sources.data, "data");
    if (sources.keys) check_expiry(*sources.keys, verify_kind(*sources.keys, "keys"), now_us);
    const fs::path draft = ledger_folder.string() + ".restoring";
    fs::remove_all(draft);
    make_private_folder(draft);
    Copier copier;
    RestoreReport report;
    const fs::path previous = put_previous(copier, sources.data, draft);
    if (!previous.empty()) report.previous = ledger_folder / previous;
    copier.tree(sources.data / "auditors", draft / "auditors", kPemBytesMax);
    if (fs::exists(sources.data / kList)) {
        copier.file(sources.data / kList, draft / "keys" / kList, kJournalBytesMax);
    }
    if (sources.keys) put_keys(copier, *sources.keys, draft);
    copier.finish();

    Subjects subjects(draft / "keys" / "subjects");
    std::vector<fs::path> journals{sources.data / "erased"};
    if (sources.journal) journals.push_back(*sources.journal);
    for (const fs::path& path : journals) {
        if (path == journals.front() && !fs::exists(path)) continue;
        (void)subjects.journal().add_all(parse_erase_journal(read_file(path, kJournalBytesMax)));
    }
    report.n_erased = subjects.replay_journal();
    fs::rename(draft, ledger_folder);
    sync_folder(ledger_folder.parent_path());
    return report;
}

}  // namespace etalon::ledger

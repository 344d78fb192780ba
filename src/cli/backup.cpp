// SPDX-License-Identifier: Apache-2.0
// `etalon backup data|keys|list|restore`: the ledger and the database in two parts, of which the
// one with the keys is kept for days.
#include "ledger/backup.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <memory>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/output.h"

#include "base/clock.h"
#include "base/error.h"
#include "ledger/subjects.h"
#include "serve/accounts.h"
#include "serve/config.h"

namespace etalon::cli {

namespace {

constexpr const char* kDatabaseName = "etalon.db";

struct BackupOptions {
    std::string folder;
    std::uint64_t days = 7;
    std::string keys;
    std::string journal;
};

std::string time_text(std::uint64_t time_us) {
    return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                       fmt::gmtime(static_cast<std::time_t>(time_us / kSecondUs)));
}

void back_up_data(const BackupOptions& options) {
    const std::filesystem::path database = serve::database_path();
    const std::filesystem::path copy = database.string() + ".backup";
    std::vector<ledger::ExtraFile> extra;
    // Deleted rows must not live on in a copy that a failure leaves behind.
    const std::shared_ptr<void> removal(nullptr, [&](void*) {
        std::error_code ignored;
        std::filesystem::remove(copy, ignored);
    });
    std::filesystem::remove(copy);
    if (std::filesystem::exists(database)) {
        serve::Database(database).copy_to(copy);
        extra.push_back({kDatabaseName, copy});
    }
    const ledger::BackupInfo info =
        ledger::back_up_data(ledger_options().folder, options.folder, extra, unix_time_us());
    std::fprintf(stderr, "etalon: %llu files; no key is among them: etalon backup keys\n",
                 static_cast<unsigned long long>(info.n_files));
}

void back_up_keys(const BackupOptions& options) {
    const ledger::BackupInfo info =
        ledger::back_up_keys(ledger_options().folder, options.folder, options.days, unix_time_us());
    std::fprintf(stderr, "etalon: delete %s after %s; it is not restored then\n",
                 printable(options.folder).c_str(), time_text(info.expires_us).c_str());
}

void list() {
    const std::uint64_t now_us = unix_time_us();
    for (const ledger::KeyBackup& backup : ledger::key_backups(ledger_options().folder)) {
        print(fmt::format("{}  {} {}  {}\n", time_text(backup.made_us),
                          backup.expires_us > now_us ? "until  " : "expired",
                          time_text(backup.expires_us), printable(backup.folder)));
    }
}

/// Rows of accounts that were erased after the backup go again.
void forget_erased_accounts(const ledger::LedgerOptions& options) {
    const ledger::Subjects subjects(options.folder / "keys" / "subjects");
    serve::Accounts accounts(serve::database_path());
    for (const serve::TenantInfo& tenant : accounts.list_tenants()) {
        const std::string name_mac = subjects.name_mac(ledger::tenant_subject(tenant.name));
        for (const ledger::ErasedSubject& erased : subjects.journal().read()) {
            const bool is_later =
                erased.time_us >= static_cast<std::uint64_t>(tenant.created) * kSecondUs;
            if (erased.basis != "request" || erased.name_mac != name_mac || !is_later) continue;
            accounts.forget_tenant(tenant.name);
        }
    }
    accounts.scrub();
}

/// The database comes back only with the keys: the journal says whose rows were erased only with
/// the secret that is among them.
void restore_database(const BackupOptions& options) {
    const std::filesystem::path saved = std::filesystem::path(options.folder) / kDatabaseName;
    if (options.keys.empty() || !std::filesystem::exists(saved)) return;
    if (std::filesystem::exists(serve::database_path())) {
        std::fprintf(stderr, "etalon: %s is there already and stays as it is\n",
                     printable(serve::database_path().string()).c_str());
        return;
    }
    std::filesystem::copy_file(saved, serve::database_path());
    forget_erased_accounts(ledger_options());
}

void restore(const BackupOptions& options) {
    ledger::RestoreSources sources;
    sources.data = options.folder;
    if (!options.keys.empty()) sources.keys = options.keys;
    if (!options.journal.empty()) sources.journal = options.journal;
    const ledger::RestoreReport report =
        ledger::restore_backup(sources, ledger_options().folder, unix_time_us());
    restore_database(options);
    if (!report.previous.empty()) {
        std::fprintf(stderr, "etalon: the former log is in %s; a new one begins\n",
                     printable(report.previous.string()).c_str());
    }
    std::fprintf(stderr, "etalon: %zu keys of the backup were erased since and are destroyed\n",
                 report.n_erased);
}

}  // namespace

void add_backup(CLI::App& app) {
    CLI::App* command = app.add_subcommand("backup", "save the ledger and the database, and back");
    command->require_subcommand(1);
    const auto options = std::make_shared<BackupOptions>();
    CLI::App* data = command->add_subcommand("data", "log, payloads and database, without keys");
    data->add_option("DIR", options->folder, "a new folder")->required();
    data->callback([options] { back_up_data(*options); });
    CLI::App* keys = command->add_subcommand("keys", "the subjects' keys, to be kept for days");
    keys->add_option("DIR", options->folder, "a new folder")->required();
    keys->add_option("--days", options->days, "after which it is not restored")
        ->capture_default_str();
    keys->callback([options] { back_up_keys(*options); });
    CLI::App* listed = command->add_subcommand("list", "every backup of keys that was made");
    listed->callback([] { list(); });
    CLI::App* restored = command->add_subcommand("restore", "a ledger from a backup");
    restored->add_option("DIR", options->folder, "the backup of the data")->required();
    restored->add_option("--keys", options->keys, "the backup of the keys");
    restored->add_option("--journal", options->journal,
                         "`erased` of a later backup or of the former disk");
    restored->callback([options] { restore(*options); });
}

}  // namespace etalon::cli

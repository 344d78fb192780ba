// SPDX-License-Identifier: Apache-2.0
// `etalon erase SUBJECT`: destroys the keys of a subject, so that nobody opens a payload that names
// it; `--hold` and `--release` forbid and allow that.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/output.h"

#include "base/error.h"
#include "ledger/backup.h"
#include "ledger/retention.h"
#include "ledger/subjects.h"
#include "serve/accounts.h"
#include "serve/config.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

struct EraseOptions {
    std::string subject;
    std::string tenant = "default";
    std::string reason;
    std::string hold;
    bool account = false;
    bool release = false;
    bool due = false;
    bool json = false;
};

/// Without a ledger there is nobody to erase, and nothing is made to say so.
ledger::LedgerOptions existing_ledger() {
    ledger::LedgerOptions options = ledger_options();
    if (!std::filesystem::exists(options.folder / "keys" / "subjects")) {
        throw Error(ExitCode::not_found,
                    fmt::format("there is no ledger in {}", printable(options.folder.string())));
    }
    return options;
}

/// The name, and whose it is: SUBJECT of a tenant, or the account of the tenant SUBJECT.
ledger::EraseRequest request_of(const EraseOptions& options) {
    if (options.subject.empty()) {
        throw Error(ExitCode::usage, "no subject is named", "etalon erase --help");
    }
    if (options.account) return {options.subject, "", options.reason};
    return {options.tenant, options.subject, options.reason};
}

void hold_or_release(const EraseOptions& options, const ledger::EraseRequest& request) {
    ledger::Subjects subjects(existing_ledger().folder / "keys" / "subjects");
    const std::string name = ledger::subject_name(request.tenant, request.subject);
    if (!options.release) {
        subjects.hold(name, options.hold);
        return;
    }
    if (subjects.release(name)) return;
    throw Error(ExitCode::not_found, "no legal hold keeps that subject");
}

/// What SQLite still has of rows that are gone, and an account's own rows.
void clean_database(const EraseOptions& options, const ledger::EraseRequest& request) {
    if (!std::filesystem::exists(serve::database_path())) return;
    serve::Accounts accounts(serve::database_path());
    if (options.account) accounts.forget_tenant(request.tenant);
    accounts.scrub();
}

void erase_due() {
    const ledger::RetentionReport report =
        ledger::apply_retention(existing_ledger(), configured_retention(), unix_time_us());
    std::fprintf(stderr, "etalon: %zu keys are destroyed, %zu are held, %zu names got new keys\n",
                 report.n_erased, report.n_held, report.n_retired);
}

void erase(const EraseOptions& options) {
    if (options.due) {
        erase_due();
        return;
    }
    const ledger::EraseRequest request = request_of(options);
    if (!options.hold.empty() || options.release) {
        hold_or_release(options, request);
        return;
    }
    const auto ids = ledger::erase_on_request(existing_ledger(), request, configured_retention(),
                                              unix_time_us());
    clean_database(options, request);
    if (options.json) {
        print_json({{"erased", ids}});
    } else {
        for (const std::string& id : ids)
            print(id + "\n");
    }
    for (const ledger::KeyBackup& backup : ledger::key_backups(ledger_options().folder)) {
        if (backup.expires_us <= unix_time_us()) continue;
        std::fprintf(stderr, "etalon: delete %s: it may hold a destroyed key\n",
                     printable(backup.folder).c_str());
    }
    std::fprintf(stderr, "etalon: %zu keys are destroyed; no payload that names them opens again\n",
                 ids.size());
}

}  // namespace

void add_erase(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("erase", "destroy a subject's keys: its payloads never open again");
    const auto options = std::make_shared<EraseOptions>();
    command->add_option("SUBJECT", options->subject, "as x-etalon-subject named it");
    command->add_option("--tenant", options->tenant, "whose subject it is")->capture_default_str();
    command->add_flag("--account", options->account,
                      "SUBJECT is a tenant: its account, API keys and usage");
    command->add_option("--reason", options->reason, "for the journal of erasures");
    auto* hold =
        command->add_option("--hold", options->hold, "do not erase: a legal hold, with its reason");
    command->add_flag("--release", options->release, "do not erase: end the legal hold")
        ->excludes(hold);
    command->add_flag("--due", options->due,
                      "what the key `retention` says is over: to be run once a day");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { erase(*options); });
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// `etalon erase SUBJECT`: destroys the keys of a subject, so that nobody opens a payload that names
// it; `--hold` and `--release` forbid and allow that.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/output.h"

#include "base/clock.h"
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
    std::string ledger;
    std::string subject;
    std::string tenant = "default";
    std::string reason;
    std::string hold;
    bool has_hold = false;
    bool account = false;
    bool release = false;
    bool due = false;
    bool json = false;
};

/// Without a ledger there is nobody to erase, and nothing is made to say so.
ledger::LedgerOptions existing_ledger(const EraseOptions& erase) {
    ledger::LedgerOptions options = ledger_options(erase.ledger);
    options.stored = stored_limits(serve::load_config());
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
    if (options.has_hold && options.hold.empty()) {
        throw Error(ExitCode::usage, "a legal hold has a reason", "--hold \"court, number\"");
    }
    ledger::Subjects subjects(existing_ledger(options).folder / "keys" / "subjects");
    const std::string name = ledger::subject_name(request.tenant, request.subject);
    if (!options.release) {
        subjects.hold(name, options.hold);
        return;
    }
    if (subjects.release(name)) return;
    throw Error(ExitCode::not_found, "no legal hold keeps that subject");
}

/// What SQLite still has of rows that are gone, and an account's own rows. True: there was one.
bool clean_database(const EraseOptions& options, const ledger::EraseRequest& request) {
    if (!std::filesystem::exists(serve::database_path())) return false;
    serve::Accounts accounts(serve::database_path());
    const bool was_there = options.account && accounts.forget_tenant(request.tenant);
    accounts.scrub();
    return was_there;
}

/// The keys of the request's subject, destroyed, and the database without it. What failed halfway
/// before is done to its end: the database is cleaned whether or not a key was left.
std::vector<std::string> erase_keys_and_rows(const EraseOptions& options,
                                             const ledger::EraseRequest& request) {
    std::vector<std::string> ids;
    std::optional<Error> trouble;
    try {
        ids = ledger::erase_on_request(existing_ledger(options), request, configured_retention(),
                                       unix_time_us());
    } catch (const Error& error) {
        const bool goes_on =
            error.code() == ExitCode::not_found || error.code() == ExitCode::unavailable;
        if (!goes_on) throw;
        trouble = error;
    }
    // The database is the server's: a ledger that is named has its own keys alone.
    const bool was_there = options.ledger.empty() && clean_database(options, request);
    if (trouble && (trouble->code() != ExitCode::not_found || !was_there)) throw Error(*trouble);
    return ids;
}

void erase_due(const EraseOptions& options) {
    const ledger::LedgerOptions existing = existing_ledger(options);
    const ledger::RetentionReport report =
        ledger::apply_retention(existing, configured_retention(), unix_time_us());
    ledger::sweep_responses(existing.folder, existing.stored, unix_time_us() / kSecondUs);
    std::fprintf(stderr, "etalon: %zu keys are destroyed, %zu are held, %zu names got new keys\n",
                 report.n_erased, report.n_held, report.n_retired);
}

void erase(const EraseOptions& options) {
    if (options.due) {
        erase_due(options);
        return;
    }
    const ledger::EraseRequest request = request_of(options);
    if (options.has_hold || options.release) {
        hold_or_release(options, request);
        return;
    }
    const std::vector<std::string> ids = erase_keys_and_rows(options, request);
    if (options.json) {
        print_json({{"erased", ids}});
    } else {
        for (const std::string& id : ids)
            print(id + "\n");
    }
    for (const ledger::KeyBackup& backup : ledger::key_backups(ledger_folder(options.ledger))) {
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
    auto* subject =
        command->add_option("SUBJECT", options->subject, "as x-etalon-subject named it");
    command->add_option("--tenant", options->tenant, "whose subject it is")->capture_default_str();
    command->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's");
    command->add_flag("--account", options->account,
                      "SUBJECT is a tenant: its account, API keys and usage");
    command->add_option("--reason", options->reason, "for the journal of erasures");
    auto* hold =
        command->add_option("--hold", options->hold, "do not erase: a legal hold, with its reason");
    auto* release =
        command->add_flag("--release", options->release, "do not erase: end the legal hold");
    release->excludes(hold);
    command
        ->add_flag("--due", options->due,
                   "what the key `retention` says is over: to be run once a day")
        ->excludes(subject)
        ->excludes(hold)
        ->excludes(release);
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options, hold] {
        options->has_hold = hold->count() > 0;
        erase(*options);
    });
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// `etalon audit export|verify|open`: bundles for auditors (docs/ledger.md section 6).
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fmt/format.h>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/auditor.h"
#include "cli/commands.h"
#include "cli/evidence.h"
#include "cli/ledger_place.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/file.h"
#include "ledger/bundle.h"
#include "ledger/ledger.h"
#include "ledger/stamps.h"
#include "tlog/time_stamp.h"

namespace etalon::cli {

namespace {

struct AuditOptions {
    std::string folder;
    std::string ledger;
    std::string from;
    std::string to;
    std::vector<std::string> models;
    std::string public_key;
    std::string policy;
    std::string held;
    std::string tsa_certificate;
    std::uint64_t intent = 0;
    std::string key;
    std::string certificate;
};

void print_report(const ledger::BundleReport& report) {
    print_field("origin", report.checkpoint.origin);
    print_field("records in the log", count_text(report.checkpoint.size));
    print_field("range", fmt::format("{} to {}", report.range.first, report.range.end));
    for (const auto& [kind, n] : report.kinds)
        print_field(kind, count_text(n));
    print_field("without complete", count_text(report.n_unfinished));
    print_field("payloads", count_text(report.n_payloads));
}

/// The reading is a record before anything is given away.
void run_export(const AuditOptions& options) {
    const std::filesystem::path folder = ledger_folder(options.ledger);
    const std::uint64_t from = options.from.empty() ? 0 : time_us_of(options.from);
    const std::uint64_t to = options.to.empty() ? UINT64_MAX : time_us_of(options.to);
    if (!std::filesystem::exists(folder / "log" / "checkpoint")) {
        throw Error(ExitCode::not_found,
                    fmt::format("{} has no ledger", printable(folder.string())));
    }
    const Evidence evidence({options.models, options.public_key, folder});
    ledger::BundleRange range = ledger::range_of_times(folder, from, to);
    // What nobody has witnessed yet waits for the next bundle, unless it is asked for.
    if (const auto witnessed = ledger::witnessed_size(ledger::log_files(folder));
        witnessed && options.to.empty()) {
        range.end = std::min(range.end, *witnessed);
        range.first = std::min(range.first, range.end);
    }
    ledger::record_now(ledger_options(options.ledger),
                       {ledger::LogRead{range.first, range.end, "export"}});
    print_report(ledger::export_bundle(folder, range, options.folder,
                                       [&](const auto& loads) { return evidence.files(loads); }));
}

/// When the bundle's checkpoints were seen, by the authority whose certificate was given.
void print_stamps(const AuditOptions& options) {
    const std::vector<ledger::Stamp> stamps = ledger::bundle_stamps(options.folder);
    if (stamps.empty()) print_field("time stamps", "none");
    std::string certificates;
    if (!options.tsa_certificate.empty()) {
        certificates = read_file(options.tsa_certificate, tlog::kCertificatesBytesMax);
    }
    for (const ledger::Stamp& stamp : stamps) {
        std::string told = "not looked at: --tsa-certificate FILE";
        if (!certificates.empty()) {
            told = tlog::time_stamp_text(
                tlog::verify_time_stamp(stamp.checkpoint, stamp.response, certificates));
        }
        print_field("time stamp", fmt::format("{} records: {}", count_text(stamp.size), told));
    }
}

void run_verify(const AuditOptions& options) {
    const bool is_own = options.policy.empty();
    const tlog::Policy policy =
        is_own ? ledger::bundle_policy(options.folder)
               : tlog::parse_policy(read_file(options.policy, tlog::kPolicyBytesMax));
    std::optional<std::string> held;
    if (!options.held.empty()) held = read_file(options.held, tlog::kNoteBytesMax);
    print_report(ledger::verify_bundle(options.folder, policy, held));
    print_stamps(options);
    print("accepted\n");
    if (is_own) {
        std::fputs("etalon: the policy is the bundle's own: it does not show whose log this is\n",
                   stderr);
    }
    if (!held) {
        std::fputs("etalon: no checkpoint was held: another history could have been signed\n",
                   stderr);
    }
}

void run_open(const AuditOptions& options) {
    print(ledger::open_bundle_payload(options.folder, options.intent,
                                      read_auditor_key(options.key, options.certificate)));
}

}  // namespace

void add_audit(CLI::App& app) {
    CLI::App* command = app.add_subcommand("audit", "bundles of records for auditors");
    command->require_subcommand(1);
    const auto options = std::make_shared<AuditOptions>();
    CLI::App* exported = command->add_subcommand("export", "write records, proofs and payloads");
    exported->add_option("FOLDER", options->folder, "is made; must not be there")->required();
    exported->add_option("--from", options->from, "first time, of UTC; absent: the beginning");
    exported->add_option("--to", options->to, "time behind the last; absent: now");
    exported->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's");
    exported->add_option("--model", options->models,
                         "a model that records name; absent: those that this machine has");
    exported->add_option(
        "--public-key", options->public_key,
        "PEM file: of the models' signatures; public_key of etalon.toml if absent");
    exported->callback([options] { run_export(*options); });
    CLI::App* verified = command->add_subcommand("verify", "check a bundle; 5: it is not accepted");
    verified->add_option("FOLDER", options->folder, "the bundle")->required();
    verified->add_option("--policy", options->policy,
                         "the log and its witnesses, as you know them");
    verified->add_option("--held", options->held, "a checkpoint of the log that you kept");
    verified->add_option("--tsa-certificate", options->tsa_certificate,
                         "PEM file: of the authority that stamped its checkpoints");
    verified->callback([options] { run_verify(*options); });
    CLI::App* opened = command->add_subcommand("open", "print a payload, by an auditor's key");
    opened->add_option("FOLDER", options->folder, "the bundle")->required();
    opened->add_option("INDEX", options->intent, "of the answer's intent")->required();
    opened->add_option("--key", options->key, "PEM")->required();
    opened->add_option("--certificate", options->certificate, "PEM, of that key")->required();
    opened->callback([options] { run_open(*options); });
}

}  // namespace etalon::cli

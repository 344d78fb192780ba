// SPDX-License-Identifier: Apache-2.0
// `etalon ledger tail|show|open|review|verify|receipt`: the published log of the server, as a
// person reads it.
#include "ledger/ledger.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/api_client.h"
#include "cli/auditor.h"
#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/output.h"
#include "cli/record_text.h"
#include "cli/review.h"

#include "base/error.h"
#include "base/file.h"
#include "ledger/bundle.h"
#include "ledger/own_payloads.h"
#include "ledger/receipt.h"
#include "ledger/record.h"
#include "ledger/subjects.h"
#include "tlog/proof_file.h"
#include "tlog/tile_reader.h"
#include "tlog/time_stamp.h"
#include "tlog/verify.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t kBodyBytesMax = 16 << 20;
constexpr std::size_t kReceiptBytesMax = 64 << 20;

struct LedgerCommand {
    std::string ledger;
    std::uint64_t count = 20;
    std::string kind;
    std::string model;
    std::string tenant;
    std::string from;
    std::string to;
    AuditorOptions auditor;
    ServerOptions server;
    std::uint64_t index = 0;
    bool json = false;
    std::string receipt;
    std::string policy;
    std::string held;
    std::string body;
    std::string text;
    std::string tsa_certificate;
};

/// The published log.
struct Log {
    std::filesystem::path folder;
    tlog::FileSource files;
    std::string note;
    tlog::Checkpoint checkpoint;
};

Log open_log(const LedgerCommand& options) {
    Log log;
    log.folder = ledger_folder(options.ledger);
    log.files = ledger::log_files(log.folder);
    const auto note = log.files("checkpoint");
    if (!note) {
        throw Error(ExitCode::not_found,
                    fmt::format("{} has no ledger", printable(log.folder.string())),
                    "etalon run and etalon serve begin one");
    }
    log.note = *note;
    log.checkpoint = tlog::parse_checkpoint(tlog::parse_note(log.note).text);
    return log;
}

/// The id that the records of a tenant have; nullopt: all of them are wanted.
std::optional<std::string> tenant_id(const Log& log, const LedgerCommand& options) {
    if (options.tenant.empty()) return std::nullopt;
    const auto subject = ledger::Subjects(log.folder / "keys" / "subjects")
                             .find(ledger::tenant_subject(options.tenant));
    if (!subject) {
        throw Error(ExitCode::not_found,
                    fmt::format("the ledger has no tenant {}", printable(options.tenant)));
    }
    return subject->id;
}

bool is_wanted(const ledger::Record& record, const LedgerCommand& options,
               const std::optional<std::string>& tenant) {
    if (!options.kind.empty() && ledger::kind_of(record) != options.kind) return false;
    const auto* intent = std::get_if<ledger::Intent>(&record.body);
    const auto* load = std::get_if<ledger::ModelLoad>(&record.body);
    if (tenant && (intent == nullptr || intent->tenant != *tenant)) return false;
    if (options.model.empty()) return true;
    const std::string* model = intent != nullptr ? &intent->model : nullptr;
    if (load != nullptr) model = &load->model;
    return model != nullptr && model->rfind(options.model, 0) == 0;
}

void tail(const LedgerCommand& options) {
    const Log log = open_log(options);
    const auto tenant = tenant_id(log, options);
    std::vector<std::string> lines;  // newest first
    const ledger::BundleRange range =
        ledger::range_of_times(log.folder, options.from.empty() ? 0 : time_us_of(options.from),
                               options.to.empty() ? UINT64_MAX : time_us_of(options.to));
    std::uint64_t end = std::min(range.end, log.checkpoint.size);  // the log may have grown
    while (end > range.first && lines.size() < options.count) {
        const std::uint64_t begin =
            std::max((end - 1) / tlog::kTileWidth * tlog::kTileWidth, range.first);
        std::vector<std::string> found;
        const auto take = [&](std::uint64_t index, std::string_view entry) {
            const ledger::Record record = ledger::parse_record(entry);
            if (!is_wanted(record, options, tenant)) return;
            found.push_back(
                options.json
                    ? std::string(entry)
                    : fmt::format("{:>8} {} {:<13} {}", index, time_text(record.time_us),
                                  printable(ledger::kind_of(record)), record_summary(record)));
        };
        tlog::read_entries(log.files, begin, end, log.checkpoint.size, take);
        lines.insert(lines.end(), found.rbegin(), found.rend());
        end = begin;
    }
    lines.resize(std::min<std::size_t>(lines.size(), options.count));
    for (auto line = lines.rbegin(); line != lines.rend(); ++line)
        print(*line + "\n");
}

/// The whole log again from its entries, and each entry as a record in its place.
void verify(const LedgerCommand& options) {
    const Log log = open_log(options);
    const tlog::Policy policy =
        options.policy.empty()
            ? ledger::own_policy(log.folder)
            : tlog::parse_policy(read_file(options.policy, tlog::kPolicyBytesMax));
    std::optional<tlog::Checkpoint> held;
    if (!options.held.empty()) {
        const tlog::Note note = tlog::parse_note(read_file(options.held, tlog::kNoteBytesMax));
        held = tlog::open_checkpoint(note, policy);
    }
    const auto take = [](std::uint64_t index, std::string_view entry) {
        if (ledger::parse_record(entry).seq == index) return;
        throw Error(ExitCode::invalid, fmt::format("record {} names another index", index));
    };
    const tlog::LogReport report = tlog::verify_log(log.files, policy, held, take);
    print_field("log", report.checkpoint.origin);
    print_field("records", count_text(report.checkpoint.size));
    print_field("tiles", count_text(report.n_tiles));
    print_field("held checkpoint",
                held ? fmt::format("continued, {} records", held->size) : "none");
}

/// One record as a card, with the proof that it is in the log computed and checked.
void show(const LedgerCommand& options) {
    const Log log = open_log(options);
    const std::uint64_t size = log.checkpoint.size;
    if (options.index >= size) {
        throw Error(ExitCode::not_found,
                    fmt::format("record {} is not in the log, which has {}", options.index, size));
    }
    std::string entry;
    tlog::read_entries(log.files, options.index, options.index + 1, size,
                       [&](std::uint64_t, std::string_view found) { entry = found; });
    const ledger::Record record = ledger::parse_record(entry);
    tlog::TileReader nodes(log.files, size);
    const auto proof = tlog::inclusion_proof(nodes, options.index, size);
    const bool is_proved =
        tlog::is_included(tlog::leaf_hash(entry), options.index, size, proof, log.checkpoint.root);
    if (options.json) {
        print(entry + "\n");
    } else {
        print_field("record", fmt::format("{} ({})", options.index, ledger::kind_of(record)));
        print_field("time", time_text(record.time_us));
        const auto members = nlohmann::json::parse(entry);
        for (const auto& [name, value] : members.items()) {
            const bool is_told =
                name == "seq" || name == "kind" || name == "v" || name == "time_us";
            if (!is_told)
                print_field(name, value.is_string() ? value.get<std::string>() : value.dump());
        }
        print_field("log", fmt::format("{}, {} records", log.checkpoint.origin, size));
        print_field("proof", is_proved ? fmt::format("in the checkpoint, {} hashes", proof.size())
                                       : "NOT in the checkpoint");
    }
    if (!is_proved) {
        throw Error(ExitCode::invalid,
                    fmt::format("record {} is not in the tree of the checkpoint", options.index));
    }
}

void require_reason(const LedgerCommand& options) {
    if (!options.auditor.reason.empty()) return;
    throw Error(ExitCode::usage, "a payload is opened for a reason, which is recorded",
                "--reason TEXT");
}

/// By an API key of the tenant: the server writes the record, and shows what the tenant stored.
void open_stored(const LedgerCommand& options) {
    require_reason(options);
    const ApiClient client(find_server(options.server));
    const std::string body = ordered_json{{"reason", options.auditor.reason}}.dump(
        -1, ' ', false, ordered_json::error_handler_t::replace);
    const ApiResponse response =
        client.post(fmt::format("/ledger/content/{}", options.index), body, {});
    if (response.status != 200) throw_api_error(response);
    print(response.body + "\n");
}

/// The reading is a record before anything is shown.
void open(const LedgerCommand& options) {
    if (!options.server.key_file.empty()) {
        open_stored(options);
        return;
    }
    const ledger::OwnPayloads payloads(ledger_folder(options.auditor.ledger), options.index);
    const ledger::AuditorKey key = read_auditor_key(options.auditor);
    if (payloads.n_answers(options.index) == 0) {
        throw Error(ExitCode::not_found,
                    fmt::format("record {} is no answered intent", options.index),
                    "etalon ledger tail --kind intent");
    }
    require_reason(options);
    record_reading(options.auditor, {options.index}, "open");
    print(payloads.open(options.index, key));
}

/// When the checkpoints of a receipt were seen, by the authority whose certificate was given.
void print_stamp(const ledger::VerifiedReceipt& verified, const std::string& certificate) {
    if (verified.stamp.empty()) {
        print_field("time stamp", "none");
        return;
    }
    std::string told = "not looked at: --tsa-certificate FILE";
    if (!certificate.empty()) {
        const std::string pem = read_file(certificate, tlog::kCertificatesBytesMax);
        for (const std::string& note : verified.notes)
            told = tlog::time_stamp_text(tlog::verify_time_stamp(note, verified.stamp, pem));
    }
    print_field("time stamp", told);
}

void receipt(const LedgerCommand& options) {
    const tlog::Policy policy =
        tlog::parse_policy(read_file(options.policy, tlog::kPolicyBytesMax));
    ledger::Held held;
    if (!options.body.empty()) held.body = read_file(options.body, kBodyBytesMax);
    if (!options.text.empty()) held.parts = {{{read_file(options.text, kBodyBytesMax)}, {}}};
    const auto verified =
        ledger::verify_receipt(read_file(options.receipt, kReceiptBytesMax), policy, held);
    print_field(
        "log", fmt::format("{}, {} records", verified.checkpoint.origin, verified.checkpoint.size));
    for (const auto& part : verified.parts) {
        const auto& intent = std::get<ledger::Intent>(part.intent.body);
        print_field("model", intent.model);
        print_field("intent",
                    fmt::format("{} {}", part.intent.seq, time_text(part.intent.time_us)));
        print_field("complete",
                    fmt::format("{} {}", part.complete.seq, time_text(part.complete.time_us)));
    }
    print_stamp(verified, options.tsa_certificate);
    print_field("body", held.body ? "is the recorded one" : "not looked at");
    print_field("text", held.parts.empty() ? "not looked at" : "is the recorded one");
}

}  // namespace

void add_ledger(CLI::App& app) {
    CLI::App* command = app.add_subcommand("ledger", "read and review the records of answers");
    command->require_subcommand(1);
    const auto options = std::make_shared<LedgerCommand>();
    const auto add_folder = [&](CLI::App* sub) {
        sub->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's");
        sub->add_flag("--json", options->json, "print records as they stand in the log");
    };
    CLI::App* tailed = command->add_subcommand("tail", "the latest records, one a line");
    add_folder(tailed);
    tailed->add_option("-n,--count", options->count, "at most so many")->capture_default_str();
    tailed->add_option("--kind", options->kind, "of this kind, as intent");
    tailed->add_option("--model", options->model, "of the model whose hash begins so");
    tailed->add_option("--tenant", options->tenant, "intents of this tenant");
    tailed->add_option("--from", options->from, "first time, of UTC, as 2026-11-25T08:30:00Z");
    tailed->add_option("--to", options->to, "time behind the last");
    tailed->callback([options] { tail(*options); });
    CLI::App* shown = command->add_subcommand("show", "one record and its proof");
    add_folder(shown);
    shown->add_option("INDEX", options->index, "of the record")->required();
    shown->callback([options] { show(*options); });
    CLI::App* opened = command->add_subcommand(
        "open", "print a payload, by an auditor's key; or what a tenant stored, by its --key-file");
    opened->add_option("INDEX", options->index, "of the answer's intent")->required();
    add_auditor_options(*opened, options->auditor);
    add_server_options(*opened, options->server);
    CLI::Option* key_file = opened->get_option("--key-file");
    key_file->description("file with an API key of scope content:read: ask the server");
    for (const char* flag : {"--key", "--certificate", "--ledger"})
        key_file->excludes(opened->get_option(flag));
    for (const char* flag : {"--server", "--ca-file"})
        opened->get_option(flag)->needs(key_file);
    opened->callback([options] { open(*options); });
    add_review(*command);
    CLI::App* whole = command->add_subcommand("verify", "compute the whole log again");
    whole->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's");
    whole->add_option("--policy", options->policy,
                      "the log and its witnesses; absent: its own key");
    whole->add_option("--held", options->held, "a checkpoint of the log that you kept");
    whole->callback([options] { verify(*options); });
    CLI::App* verified = command->add_subcommand("receipt", "verify a receipt, without the log");
    verified->add_option("FILE", options->receipt, "as GET /v1/receipts/ID gave it")->required();
    verified->add_option("--policy", options->policy, "the log, as you know it")->required();
    verified->add_option("--body", options->body, "file: the body of the request, as sent");
    verified->add_option("--text", options->text, "file: the text of the first answer");
    verified->add_option("--tsa-certificate", options->tsa_certificate,
                         "PEM file: of the authority that stamped its checkpoint");
    verified->callback([options] { receipt(*options); });
}

}  // namespace etalon::cli

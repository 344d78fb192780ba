// SPDX-License-Identifier: Apache-2.0
// `etalon licence MODEL`: which licence a model has, and that a person accepts it.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <memory>
#include <span>
#include <string>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/model_licence.h"
#include "cli/output.h"
#include "cli/signature_flags.h"

#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "ledger/json.h"
#include "ledger/ledger.h"
#include "ledger/subjects.h"

namespace etalon::cli {

namespace {

constexpr std::size_t kTextBytesMax = 1 << 20;

struct LicenceOptions {
    std::string model;
    std::string accepted_by;
    std::string tenant = "default";
    std::string text;
    std::string ledger;
    SignatureFlags signature;
};

void licence(const LicenceOptions& options) {
    const HashedModel model(options.model, options.signature, usable_processors());
    const std::string name = licence_of(model.file());
    const std::string text = options.text.empty() ? "" : read_file(options.text, kTextBytesMax);
    if (!options.accepted_by.empty() && name.empty() && text.empty()) {
        throw Error(ExitCode::usage, fmt::format("{} states no licence", printable(options.model)),
                    "--text FILE names what is accepted");
    }
    ledger::Licence record;
    record.licence = ledger::plain(name);
    record.model = to_hex(model.hash());
    record.text = to_hex(sha256(std::as_bytes(std::span(text))));
    if (!options.accepted_by.empty()) {
        record.by = ledger::subject_id(ledger_folder(options.ledger),
                                       ledger::named_subject(options.tenant, options.accepted_by));
        ledger::record_now(ledger_options(options.ledger), {record});
    }
    print_field("model", record.model);
    print_field("licence", name.empty() ? "not stated in the file" : name);
    if (!text.empty()) print_field("text", record.text);
    if (!options.accepted_by.empty()) print_field("accepted by", record.by);
}

}  // namespace

void add_licence(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("licence", "say a model's licence, or record that a person accepts it");
    const auto options = std::make_shared<LicenceOptions>();
    command->add_option("MODEL", options->model, "model file or folder")->required();
    CLI::Option* by = command->add_option("--accept-by", options->accepted_by,
                                          "who accepts it; the record has a pseudonym");
    command->add_option("--tenant", options->tenant, "whose person that is")
        ->capture_default_str()
        ->needs(by);
    command->add_option("--text", options->text, "file: the licence as it was read");
    command->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's")
        ->needs(by);
    add_signature_flags(*command, options->signature);
    command->callback([options] { licence(*options); });
}

}  // namespace etalon::cli

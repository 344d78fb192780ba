// SPDX-License-Identifier: Apache-2.0
// `etalon ledger review INDEX --verdict ok|objection --by NAME`: who judged an answer, and how. The
// note is content: the record commits to it, and who wrote it keeps it.
#include "cli/review.h"

#include <CLI/CLI.hpp>
#include <cstdint>
#include <fmt/format.h>
#include <memory>
#include <string>

#include "cli/ledger_place.h"

#include "base/error.h"
#include "base/file.h"
#include "ledger/ledger.h"
#include "ledger/own_payloads.h"
#include "ledger/subjects.h"

namespace etalon::cli {

namespace {

constexpr std::size_t kNoteBytesMax = 1 << 20;

struct ReviewOptions {
    std::string ledger;
    std::uint64_t index = 0;
    std::string verdict;
    std::string by;
    std::string tenant = "default";
    std::string note;
    std::string note_file;
};

void review(const ReviewOptions& options) {
    const std::filesystem::path folder = ledger_folder(options.ledger);
    const ledger::OwnPayloads payloads(folder, options.index);
    if (payloads.n_answers(options.index) == 0) {
        throw Error(ExitCode::not_found,
                    fmt::format("record {} is no answered intent", options.index),
                    "etalon ledger tail --kind intent");
    }
    ledger::Review record;
    record.intent = options.index;
    record.verdict = options.verdict;
    record.note = payloads.commit_note(
        options.index,
        options.note_file.empty() ? options.note : read_file(options.note_file, kNoteBytesMax));
    record.by = ledger::subject_id(folder, ledger::named_subject(options.tenant, options.by));
    ledger::record_now(ledger_options(options.ledger), {record});
}

}  // namespace

void add_review(CLI::App& ledger_command) {
    CLI::App* command =
        ledger_command.add_subcommand("review", "record a person's judgement of an answer");
    const auto options = std::make_shared<ReviewOptions>();
    command->add_option("INDEX", options->index, "of the answer's intent")->required();
    command->add_option("--verdict", options->verdict, "ok or objection")
        ->required()
        ->check(CLI::IsMember({"ok", "objection"}));
    command->add_option("--by", options->by, "who judges; the record has a pseudonym")->required();
    command->add_option("--tenant", options->tenant, "whose person that is")->capture_default_str();
    CLI::Option* note =
        command->add_option("--note", options->note, "why: it is committed to and not kept");
    command->add_option("--note-file", options->note_file, "the same, as a file")->excludes(note);
    command->add_option("--ledger", options->ledger, "folder of the ledger; absent: the server's");
    command->callback([options] { review(*options); });
}

}  // namespace etalon::cli

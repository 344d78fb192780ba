// SPDX-License-Identifier: Apache-2.0
// `etalon replay`: derives answers again and says whether they match.
#include "engine/replay.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <vector>

#include "cli/commands.h"
#include "cli/ledger_place.h"
#include "cli/load.h"
#include "cli/machine.h"
#include "cli/model_facts.h"
#include "cli/output.h"
#include "cli/payload_source.h"

#include "base/error.h"
#include "base/thread_pool.h"
#include "ledger/json.h"
#include "model/memory.h"
#include "weights/model_hash.h"

namespace etalon::cli {

namespace {

namespace fs = std::filesystem;

struct ReplayOptions {
    PayloadChoice choice;
    std::string model;
    DeviceOptions device;
    bool exact = false;
    bool json = false;
};

/// What came of one payload.
struct Outcome {
    std::string label;
    ExitCode code = ExitCode::ok;  ///< ok: match
    std::string text;              ///< the verdict, or why there is none
    std::optional<engine::Verdict> verdict;
    int n_tokens = 0;
    std::string digest;          ///< DIG-3
    std::string payload_sha256;  ///< of its bytes
    std::optional<RecordedAnswer> recorded;
    std::string backend;
    double seconds = 0.0;
};

/// A payload that waits for its model.
struct Waiting {
    PayloadSource source;
    std::size_t n_tokens = 0;  ///< of prompt and answer
};
using ByModel = std::map<Sha256Digest, std::vector<Waiting>>;

struct OpenModel {
    weights::ModelFile file;
    Sha256Digest hash{};
};

/// --- which model ---

std::optional<OpenModel> open_model(const fs::path& path) {
    weights::ModelFile file = weights::ModelFile::open(path);
    const Sha256Digest hash = weights::model_hash(file);
    return OpenModel{std::move(file), hash};
}

/// The model of this hash in the folder of the default model. Errors: not_found.
OpenModel find_model(const Sha256Digest& hash) {
    const fs::path folder = default_model_path().parent_path();
    for (const fs::path& path : model_candidates()) {
        try {
            auto model = open_model(path);
            if (model && model->hash == hash) return *std::move(model);
        } catch (const Error&) {
            continue;  // no model, or a damaged one: it is not the one that is looked for
        }
    }
    throw Error(
        ExitCode::not_found,
        fmt::format("no model in {} has the SHA-256 {}", printable(folder.string()), to_hex(hash)),
        "--model FILE");
}

/// --- the replay ---

class Replay {
  public:
    explicit Replay(const ReplayOptions& options)
        : options_(options), n_threads_(threads_or_all(options.device.threads)) {
        if (options_.exact) options_.device.backend = "exact";
    }

    std::vector<Outcome> run(const std::vector<PayloadSource>& sources) {
        const ByModel groups = read_all(sources);
        if (!options_.model.empty() && !groups.empty()) replay_on_named(groups);
        if (!options_.model.empty()) return std::move(outcomes_);
        for (const auto& [hash, group] : groups) {
            try {
                const OpenModel model = find_model(hash);
                replay_group(model, group);
            } catch (const Error& error) {
                fail_all(group, error);
            }
        }
        return std::move(outcomes_);
    }

  private:
    /// Reads each once for its model; those that are no payloads have their outcome then.
    ByModel read_all(const std::vector<PayloadSource>& sources) {
        ByModel groups;
        for (const PayloadSource& source : sources) {
            try {
                const engine::Payload payload = source.read().first;
                groups[payload.model_sha256].push_back(
                    {source, payload.prompt.size() + payload.answer.size()});
            } catch (const Error& error) {
                fail_all({{source, 0}}, error);
            }
        }
        return groups;
    }

    /// The replay refuses those that are of another model.
    void replay_on_named(const ByModel& groups) {
        const auto model = open_model(options_.model);
        for (const auto& [hash, group] : groups)
            replay_group(*model, group);
    }

    void replay_group(const OpenModel& model, const std::vector<Waiting>& group) {
        const auto context = static_cast<std::size_t>(model.file.config().context_length);
        std::size_t room = 1;
        for (const Waiting& waiting : group)
            room = std::max(room, std::min(waiting.n_tokens, context));
        const auto backend = make_backend(options_.device);
        const int batch = std::min(static_cast<int>(room), batch_tokens_max(*backend));
        model::check_memory(model.file, *backend, static_cast<int>(room), batch,
                            model::available_memory(*backend));
        const text::Tokenizer tokenizer = load_tokenizer(model.file);
        model::Transformer transformer(model.file, *backend, batch);
        engine::Replayer replayer(transformer, tokenizer, model.hash, n_threads_);
        for (const Waiting& waiting : group) {
            try {
                outcomes_.push_back(replay_one(replayer, waiting.source));
                outcomes_.back().backend = backend->name();
            } catch (const Error& error) {
                fail_all({waiting}, error);
            }
        }
    }

    static Outcome replay_one(engine::Replayer& replayer, const PayloadSource& source) {
        const auto [payload, sha256] = source.read();
        if (payload.mask) {
            throw Error(ExitCode::refused,
                        fmt::format("the answer was drawn under a mask of kind {}, which this "
                                    "program cannot make",
                                    printable(payload.mask->kind)));
        }
        const auto start = std::chrono::steady_clock::now();
        Outcome outcome;
        outcome.verdict = replayer.replay(payload);
        outcome.seconds =
            std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        outcome.label = source.label;
        outcome.recorded = source.recorded;
        outcome.code = outcome.verdict->match() ? ExitCode::ok : ExitCode::invalid;
        outcome.n_tokens = static_cast<int>(payload.answer.size());
        outcome.text = outcome.verdict->text();
        if (outcome.verdict->match()) outcome.text += fmt::format(", {} tokens", outcome.n_tokens);
        outcome.digest = to_hex(engine::answer_digest(payload));
        outcome.payload_sha256 = to_hex(sha256);
        return outcome;
    }

    void fail_all(const std::vector<Waiting>& group, const Error& error) {
        for (const Waiting& waiting : group) {
            Outcome outcome;
            outcome.label = waiting.source.label;
            outcome.recorded = waiting.source.recorded;
            outcome.code = error.code();
            outcome.text = "not replayed: " + error.message();
            outcomes_.push_back(std::move(outcome));
        }
    }

    ReplayOptions options_;
    int n_threads_;
    std::vector<Outcome> outcomes_;
};

/// --- what is recorded ---

/// Verdicts about answers of the ledger are in it before they are shown.
void record_outcomes(const ReplayOptions& options, const std::vector<Outcome>& outcomes) {
    std::vector<ledger::Body> records;
    for (const Outcome& outcome : outcomes) {
        if (!outcome.recorded) continue;
        ledger::Replay record;
        record.intent = outcome.recorded->intent;
        record.answer = outcome.recorded->choice;
        record.verdict = "failed";
        if (outcome.verdict) record.verdict = engine::difference_name(outcome.verdict->difference);
        record.backend = ledger::plain(outcome.backend);
        if (outcome.verdict && !outcome.verdict->match()) {
            record.position = static_cast<std::uint64_t>(std::max(outcome.verdict->position, 0));
        }
        records.emplace_back(std::move(record));
    }
    if (records.empty()) return;
    ledger::record_now(ledger_options(options.choice.auditor.ledger), records);
}

/// --- what is printed ---

nlohmann::ordered_json difference_json(const engine::Verdict& verdict) {
    using nlohmann::ordered_json;
    ordered_json recorded;
    ordered_json derived;
    if (verdict.difference == engine::Difference::finish) {
        recorded["end"] = engine::finish_name(verdict.finish);
        derived["end"] = nullptr;
        if (verdict.derived_finish) derived["end"] = engine::finish_name(*verdict.derived_finish);
    } else {
        recorded["token"] = verdict.token;
        recorded["checksum"] = fmt::format("{:016x}", verdict.checksum);
        derived["token"] = nullptr;
        derived["checksum"] = nullptr;
        if (verdict.derived.token) derived["token"] = *verdict.derived.token;
        if (verdict.derived.checksum) {
            derived["checksum"] = fmt::format("{:016x}", *verdict.derived.checksum);
        }
    }
    const bool both = verdict.difference == engine::Difference::token_and_checksum;
    return {{"what", both ? "token and checksum" : engine::difference_name(verdict.difference)},
            {"position", verdict.position},
            {"recorded", recorded},
            {"derived", derived}};
}

nlohmann::ordered_json outcome_json(const Outcome& outcome) {
    nlohmann::ordered_json out{{"file", outcome.label}};
    if (!outcome.verdict) {
        out["verdict"] = "not replayed";
        out["message"] = outcome.text;
        return out;
    }
    const bool match = outcome.verdict->match();
    out["verdict"] = match ? "match" : "mismatch";
    if (!match) out["difference"] = difference_json(*outcome.verdict);
    out["tokens"] = outcome.n_tokens;
    out["digest"] = outcome.digest;
    out["payload_sha256"] = outcome.payload_sha256;
    out["seconds"] = outcome.seconds;
    return out;
}

void print_outcomes(const std::vector<Outcome>& outcomes, bool json) {
    if (json) {
        nlohmann::ordered_json list = nlohmann::ordered_json::array();
        for (const Outcome& outcome : outcomes)
            list.push_back(outcome_json(outcome));
        return print_json(list);
    }
    for (const Outcome& outcome : outcomes)
        print(fmt::format("{}: {}\n", printable(outcome.label), printable(outcome.text, 1000)));
}

/// A mismatch outweighs what could not be replayed. Throws what main turns into the exit code.
void raise_worst(const std::vector<Outcome>& outcomes) {
    std::size_t n_mismatches = 0;
    std::size_t n_failed = 0;
    ExitCode worst = ExitCode::ok;
    for (const Outcome& outcome : outcomes) {
        if (outcome.code == ExitCode::ok) continue;
        ++(outcome.verdict ? n_mismatches : n_failed);
        if (worst == ExitCode::ok || outcome.code == ExitCode::invalid) worst = outcome.code;
    }
    const std::size_t n = outcomes.size();
    if (n_mismatches > 0) {
        throw Error(worst, fmt::format("{} of {} answers: mismatch", n_mismatches, n));
    }
    if (n_failed > 0) {
        throw Error(worst, fmt::format("{} of {} payloads: not replayed", n_failed, n));
    }
}

void replay(const ReplayOptions& options) {
    const std::vector<Outcome> outcomes = Replay(options).run(choose_payloads(options.choice));
    record_outcomes(options, outcomes);
    print_outcomes(outcomes, options.json);
    raise_worst(outcomes);
}

}  // namespace

void add_replay(CLI::App& app) {
    CLI::App* command = app.add_subcommand("replay", "derive recorded answers again");
    const auto options = std::make_shared<ReplayOptions>();
    command->add_option("ANSWER", options->choice.names,
                        "payload, folder of them (*.json), receipt, or index of an intent in the "
                        "ledger; absent: a sample of the ledger");
    command->add_option("--model", options->model,
                        "model file or folder; found by its hash if absent");
    CLI::Option* sample =
        command->add_option("--sample", options->choice.sample, "share of the payloads, as in 1%");
    CLI::Option* seed = command
                            ->add_option("--seed", options->choice.seed,
                                         "of the draw of --sample; drawn when absent")
                            ->needs(sample);
    add_auditor_options(*command, options->choice.auditor);
    add_device_options(*command, options->device);
    command->add_flag("--exact", options->exact, "compute with src/exact, the reference");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options, seed] {
        options->choice.has_seed = seed->count() > 0;
        if (options->choice.names.empty() && options->choice.sample.empty()) {
            throw Error(ExitCode::usage, "no answer is named",
                        "etalon replay ANSWER, or --sample 1% of the ledger");
        }
        replay(*options);
    });
}

}  // namespace etalon::cli

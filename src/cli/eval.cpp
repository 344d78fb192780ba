// SPDX-License-Identifier: Apache-2.0
// `etalon eval MODEL`: perplexity of texts; divergence from stored reference logits. What is
// computed from the logits here is a measurement, no part of the exact arithmetic: binary64, libm.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "cli/commands.h"
#include "cli/input.h"
#include "cli/load.h"
#include "cli/output.h"
#include "cli/reference_logits.h"

#include "base/error.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "model/memory.h"
#include "model/session.h"
#include "text/tokenizer.h"

namespace etalon::cli {

namespace {

// A text is measured in windows of this many tokens unless --context says otherwise.
constexpr int kWindowTokens = 2048;
// A log-probability may exceed 0 by its rounding only.
constexpr float kLogProbabilityMax = 1e-3F;

struct EvalOptions {
    std::string model;
    std::vector<std::string> texts;
    std::string reference;
    int context = 0;
    DeviceOptions device;
    bool json = false;
};

struct Measures {
    std::size_t n_tokens = 0;
    std::size_t n_predicted = 0;  ///< tokens that have one before them
    double nll_sum = 0.0;         ///< nats
    std::size_t n_compared = 0;   ///< positions with reference logits
    double kl_sum = 0.0;          ///< nats, KL(reference || model)
    double kl_max = 0.0;
    std::size_t n_same_top = 0;

    void add(const Measures& other) {
        n_tokens += other.n_tokens;
        n_predicted += other.n_predicted;
        nll_sum += other.nll_sum;
        n_compared += other.n_compared;
        kl_sum += other.kl_sum;
        kl_max = std::max(kl_max, other.kl_max);
        n_same_top += other.n_same_top;
    }
    double mean_nll() const { return nll_sum / static_cast<double>(n_predicted); }
    double mean_kl() const { return kl_sum / static_cast<double>(n_compared); }
    double top_share() const {
        return static_cast<double>(n_same_top) / static_cast<double>(n_compared);
    }
};

/// log(sum exp(logits)).
double log_sum_exp(std::span<const float> logits) {
    const double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0.0;
    for (const float logit : logits)
        sum += std::exp(static_cast<double>(logit) - largest);
    return largest + std::log(sum);
}

void compare(std::span<const float> reference, std::span<const float> logits, double log_sum,
             Measures& measures) {
    ETALON_ASSERT(reference.size() == logits.size());
    double kl = 0.0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (!(reference[i] <= kLogProbabilityMax)) {
            throw Error(ExitCode::invalid,
                        fmt::format("reference: log-probability {} of token {} is above 0",
                                    reference[i], i));
        }
        const double p = std::exp(static_cast<double>(reference[i]));
        if (p > 0.0) kl += p * (static_cast<double>(reference[i]) - (logits[i] - log_sum));
    }
    const auto top = [](std::span<const float> row) {
        return std::max_element(row.begin(), row.end()) - row.begin();
    };
    measures.kl_sum += kl;
    measures.kl_max = std::max(measures.kl_max, kl);
    measures.n_same_top += top(reference) == top(logits) ? 1 : 0;
    ++measures.n_compared;
}

/// Texts and reference of one evaluation, as sequences of tokens.
class Evaluation {
  public:
    explicit Evaluation(const EvalOptions& options)
        : options_(options),
          file_(weights::ModelFile::open(options.model)),
          tokenizer_(load_tokenizer(file_)) {
        for (const std::string& path : options.texts) {
            sequences_.push_back(tokenizer_.encode(read_file(path, kTextBytesMax), {}));
            if (sequences_.back().empty()) {
                throw Error(ExitCode::usage, fmt::format("{}: no text", printable(path)));
            }
        }
        if (!options.reference.empty()) use_reference();
        const int model_context = file_.config().context_length;
        // Reference logits were computed in one piece: their sequences are never split.
        const int window = options.context > 0 ? options.context
                           : reference_        ? model_context
                                               : kWindowTokens;
        window_ = std::min(window, model_context);
    }

    /// One measure a sequence, in order.
    std::vector<Measures> run() {
        std::size_t longest = 0;
        for (const auto& sequence : sequences_)
            longest = std::max(longest, sequence.size());
        const auto window = static_cast<std::size_t>(window_);
        if (reference_ && longest > window) {
            throw Error(ExitCode::usage,
                        fmt::format("a reference sequence has {} tokens, the context holds {}",
                                    longest, window));
        }
        const int room = static_cast<int>(std::min(window, longest));
        const auto device = make_backend(options_.device);
        const int batch = std::min(batch_tokens_max(*device), room);
        model::check_memory(file_, *device, room, batch, model::available_memory(*device));
        model::Transformer transformer(file_, *device, batch);
        model::Session session(transformer, room);
        std::vector<Measures> measures(sequences_.size());
        for (std::size_t i = 0; i < sequences_.size(); ++i)
            measure_sequence(session, i, measures[i]);
        return measures;
    }

  private:
    void use_reference() {
        map_.emplace(options_.reference);
        reference_.emplace(map_->bytes(), options_.reference);
        const std::string name = printable(options_.reference);
        if (reference_->vocab_size() != file_.config().vocab_size) {
            throw Error(ExitCode::invalid,
                        fmt::format("reference {}: vocabulary of {}, the model's has {}", name,
                                    reference_->vocab_size(), file_.config().vocab_size));
        }
        std::vector<std::vector<std::int32_t>> tokens;
        for (std::size_t i = 0; i < reference_->n_sequences(); ++i)
            tokens.push_back(reference_->tokens(i));
        if (!sequences_.empty() && sequences_ != tokens) {
            throw Error(ExitCode::invalid,
                        fmt::format("reference {}: its tokens are not those of the texts", name));
        }
        sequences_ = std::move(tokens);
    }

    void measure_sequence(model::Session& session, std::size_t index, Measures& measures) {
        const std::span<const std::int32_t> tokens(sequences_[index]);
        measures.n_tokens += tokens.size();
        const auto window = static_cast<std::size_t>(window_);
        for (std::size_t start = 0; start < tokens.size(); start += window) {
            const auto part = tokens.subspan(start, std::min(window, tokens.size() - start));
            session.on_logits = [&](int position, std::span<const float> logits) {
                measure_position(part, static_cast<std::size_t>(position), logits, index, measures);
            };
            session.truncate(0);
            session.append(part, 0, model::LogitsWanted::all);
        }
    }

    void measure_position(std::span<const std::int32_t> part, std::size_t position,
                          std::span<const float> logits, std::size_t index, Measures& measures) {
        const double log_sum = log_sum_exp(logits);
        if (position + 1 < part.size()) {
            const auto next = static_cast<std::size_t>(part[position + 1]);
            measures.nll_sum += log_sum - static_cast<double>(logits[next]);
            ++measures.n_predicted;
        }
        if (reference_) {
            compare(reference_->log_probabilities(index, position), logits, log_sum, measures);
        }
    }

    EvalOptions options_;
    weights::ModelFile file_;
    text::Tokenizer tokenizer_;
    std::optional<MappedFile> map_;
    std::optional<ReferenceLogits> reference_;  // points into map_
    std::vector<std::vector<std::int32_t>> sequences_;
    int window_ = 0;
};

nlohmann::ordered_json measures_json(const Measures& measures) {
    nlohmann::ordered_json out{{"tokens", measures.n_tokens}, {"predicted", measures.n_predicted}};
    if (measures.n_predicted > 0) {
        out["mean_nll_nats"] = measures.mean_nll();
        out["perplexity"] = std::exp(measures.mean_nll());
    }
    if (measures.n_compared > 0) {
        out["compared"] = measures.n_compared;
        out["kl_mean_nats"] = measures.mean_kl();
        out["kl_max_nats"] = measures.kl_max;
        out["top1_agreement"] = measures.top_share();
    }
    return out;
}

void print_measures(const Measures& measures) {
    print_field("tokens", count_text(measures.n_tokens));
    if (measures.n_predicted > 0) {
        print_field("perplexity", fmt::format("{:.4f}", std::exp(measures.mean_nll())));
        print_field("mean nll", fmt::format("{:.5f} nats", measures.mean_nll()));
    }
    if (measures.n_compared > 0) {
        print_field("KL(ref || model)", fmt::format("{:.6f} nats mean, {:.4f} largest",
                                                    measures.mean_kl(), measures.kl_max));
        print_field("top-1 agreement", fmt::format("{:.2f} %", 100.0 * measures.top_share()));
    }
}

void eval(const EvalOptions& options) {
    if (options.texts.empty() && options.reference.empty()) {
        throw Error(ExitCode::usage, "nothing to evaluate: neither --text nor --reference is given",
                    "etalon eval --help");
    }
    Evaluation evaluation(options);
    const std::vector<Measures> measures = evaluation.run();
    Measures total;
    for (const Measures& sequence : measures)
        total.add(sequence);
    if (!options.json) {
        print_measures(total);
        return;
    }
    nlohmann::ordered_json out = measures_json(total);
    out["sequences"] = nlohmann::ordered_json::array();
    for (const Measures& sequence : measures)
        out["sequences"].push_back(measures_json(sequence));
    print_json(out);
}

}  // namespace

void add_eval(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("eval", "measure perplexity, and divergence from reference logits");
    const auto options = std::make_shared<EvalOptions>();
    command->add_option("MODEL", options->model, "model file or folder")->required();
    command->add_option("--text", options->texts, "text file; may be given several times")
        ->allow_extra_args(false);
    command->add_option("--reference", options->reference,
                        "file of reference logits; without --text its tokens are used");
    command->add_option("--context", options->context, "tokens of a window; 0: 2048 at most")
        ->check(CLI::Range(0, 1 << 24));
    add_device_options(*command, options->device);
    add_backend_option(*command, options->device);
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { eval(*options); });
}

}  // namespace etalon::cli

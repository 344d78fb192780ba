// SPDX-License-Identifier: Apache-2.0
// `etalon run MODEL [PROMPT]`: one answer, or a chat when there is no prompt and a person is there.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fmt/format.h>
#include <future>
#include <iostream>
#include <optional>
#include <random>
#include <unistd.h>

#include "cli/answer_ledger.h"
#include "cli/commands.h"
#include "cli/generate.h"
#include "cli/input.h"
#include "cli/interrupt.h"
#include "cli/load.h"
#include "cli/output.h"
#include "cli/payload_file.h"
#include "cli/signature_flags.h"

#include "base/error.h"
#include "base/thread_pool.h"
#include "exact/version.h"
#include "model/memory.h"
#include "text/prompt_layout.h"

namespace etalon::cli {

namespace {

constexpr int kChatContext = 8192;

struct RunOptions {
    std::string model;
    std::string prompt;
    bool has_prompt = false;
    std::string system;
    exact::SamplingParameters sampling;
    bool has_seed = false;
    int max_tokens = 512;
    int context = 0;
    DeviceOptions device;
    int chunk = 0;
    bool raw = false;
    bool digest = false;
    bool prove = false;
    std::string payload;
    std::string ledger;
    SignatureFlags signature;
};

engine::FinishReason finish_of(FinishReason reason) {
    switch (reason) {
        case FinishReason::stop:
            return engine::FinishReason::stop;
        case FinishReason::interrupted:
            return engine::FinishReason::cancelled;
        case FinishReason::max_tokens:
        case FinishReason::context_full:
            break;
    }
    return engine::FinishReason::length;
}

/// Everything that one run needs, made once.
class Run {
  public:
    explicit Run(const RunOptions& options)
        : options_(options),
          n_threads_(threads_or_all(options.device.threads)),
          model_(options.model, options.signature, n_threads_),
          file_(model_.file()),
          tokenizer_(load_tokenizer(file_)),
          backend_(make_backend(options.device)) {
        if (!options.raw) {
            const auto layout = text::layout_of(tokenizer_.data());
            if (!layout) {
                throw Error(
                    ExitCode::usage,
                    fmt::format("{} has no chat template that is known", printable(options.model)),
                    "--raw continues the text as it is");
            }
            layout_ = *layout;
        }
    }

    /// Answers one prompt; returns the exit code.
    ExitCode answer_once(const std::string& prompt) {
        const std::vector<std::int32_t> tokens = encode({{text::Role::user, prompt}}, prompt);
        const int context = context_or(file_.config().context_length);
        check_prompt(tokens, context);
        std::optional<NewPayloadFile> payload_file;
        if (!options_.payload.empty()) payload_file.emplace(options_.payload);
        const auto room = std::min(static_cast<std::size_t>(context),
                                   tokens.size() + static_cast<std::size_t>(options_.max_tokens));
        model::Transformer transformer = load(static_cast<int>(room), context);
        model::Session session(transformer, static_cast<int>(room));
        Answer answer;
        const engine::Payload payload = record_answer(session, tokens, context, answer);
        print("\n");
        print_rates(answer);
        if (options_.digest || options_.prove) {
            const auto digest = session_digest(session, tokens, answer);
            const std::string hex = to_hex(digest);
            if (!options_.prove) print(fmt::format("digest: {}\n", hex));
            if (options_.prove) prove(tokens, answer, hex);
        }
        if (payload_file) payload_file->write(payload);
        return answer.finish == FinishReason::interrupted ? ExitCode::interrupted : ExitCode::ok;
    }

    /// A chat on the terminal; ends at the end of the input.
    ExitCode chat() {
        const int context = context_or(std::min(kChatContext, file_.config().context_length));
        model::Transformer transformer = load(context, context);
        model::Session session(transformer, context);
        std::vector<text::Message> messages;
        std::fprintf(stderr, "%s, %s; end with Ctrl-D\n", printable(file_.config().name).c_str(),
                     std::string(backend_->name()).c_str());
        for (;;) {
            std::fputs("> ", stderr);
            std::string line;
            forget_interrupt();
            if (!std::getline(std::cin, line)) break;
            if (line.empty()) continue;
            messages.push_back({text::Role::user, line});
            Answer answer;
            (void)record_answer(session, encode(messages, line), context, answer);
            std::string reply = tokenizer_.decode(answer.tokens);
            messages.push_back({text::Role::assistant, std::move(reply)});
            print("\n");
            print_rates(answer);
        }
        std::fputs("\n", stderr);
        return ExitCode::ok;
    }

  private:
    int context_or(int fallback) const {
        if (options_.context == 0) return fallback;
        return std::min(options_.context, file_.config().context_length);
    }

    /// The weights are hashed and the ledger is opened while they are brought to the device.
    model::Transformer load(int room, int context) {
        const int batch = batch_tokens_max(*backend_);
        const std::uint64_t available = model::available_memory(*backend_);
        model::check_memory(file_, *backend_, room, batch, available);
        if (backend_->free_bytes()) {
            const auto plan = model::memory_plan(file_, *backend_, room, batch);
            fmt::print(stderr, "etalon: {}: {}; {} MiB are free\n", backend_->name(), plan.text(),
                       available >> 20);
        }
        ledger_.emplace(options_.ledger);
        auto hash = std::async(std::launch::async, [this] { return model_.hash(); });
        model::Transformer transformer(file_, *backend_, std::min(batch, room));
        model_sha256_ = hash.get();
        ledger::ModelLoad load;
        load.model = to_hex(model_sha256_);
        load.name = name();
        load.architecture = printable(file_.config().architecture);
        load.backend = backend_->name();
        load.arithmetic = exact::kArithmeticVersion;
        load.context_tokens = static_cast<std::uint64_t>(context);
        load.vocab_size = static_cast<std::uint64_t>(file_.config().vocab_size);
        ledger_->set_model(std::move(load));
        return transformer;
    }

    std::string name() const {
        const std::string& name = file_.config().name;
        return printable(name.empty() ? file_.path().stem().string() : name);
    }

    /// Nothing is computed before the ledger has the question, nothing is over before it has the
    /// answer. Errors: those of generate() and of the ledger.
    engine::Payload record_answer(model::Session& session, const std::vector<std::int32_t>& prompt,
                                  int context, Answer& answer) {
        check_prompt(prompt, session.n_tokens_max());
        engine::Payload payload = payload_of(prompt, context);
        ledger_->begin(payload);
        const auto complete = [&](engine::FinishReason finish) {
            payload.answer = answer.tokens;
            const auto& checksums = session.checksums();
            const auto first = checksums.begin() + static_cast<std::ptrdiff_t>(prompt.size()) - 1;
            if (!answer.tokens.empty()) {
                payload.checksums.assign(first,
                                         first + static_cast<std::ptrdiff_t>(answer.tokens.size()));
            }
            payload.finish = finish;
            ledger_->complete(payload, answer.text);
        };
        try {
            generate(session, tokenizer_, prompt, generate_options(), answer);
        } catch (const Error&) {
            complete(is_printing_ ? engine::FinishReason::cancelled : engine::FinishReason::error);
            throw;
        }
        complete(finish_of(answer.finish));
        return payload;
    }

    static void check_prompt(const std::vector<std::int32_t>& prompt, int room) {
        if (prompt.empty()) throw Error(ExitCode::usage, "the prompt is empty");
        if (prompt.size() < static_cast<std::size_t>(room)) return;
        throw Error(ExitCode::usage, fmt::format("the prompt has {} tokens, the context holds {}",
                                                 prompt.size(), room));
    }

    std::vector<std::int32_t> encode(std::vector<text::Message> messages,
                                     const std::string& raw_text) const {
        if (options_.raw) return tokenizer_.encode(raw_text, {.special = false});
        if (!options_.system.empty()) {
            messages.insert(messages.begin(), {text::Role::system, options_.system});
        }
        return text::encode_conversation(tokenizer_, layout_, messages);
    }

    GenerateOptions generate_options() {
        GenerateOptions generate;
        generate.sampling = options_.sampling;
        generate.max_tokens = options_.max_tokens;
        generate.chunk = options_.chunk;
        generate.all_checksums = options_.digest || options_.prove;
        generate.on_text = [this](std::string_view text) {
            is_printing_ = true;
            print(text);
            is_printing_ = false;
        };
        generate.interrupted = [] { return is_interrupted(); };
        return generate;
    }

    /// All but the answer.
    engine::Payload payload_of(const std::vector<std::int32_t>& prompt, int context) const {
        engine::Payload payload;
        payload.model_name = name();
        payload.model_sha256 = model_sha256_;
        payload.prompt = prompt;
        payload.sampling = options_.sampling;
        // The last token is never computed and needs no place in the context.
        payload.max_tokens =
            std::min(options_.max_tokens, context + 1 - static_cast<int>(prompt.size()));
        return payload;
    }

    /// Computes the answer again with src/exact and compares.
    void prove(const std::vector<std::int32_t>& tokens, const Answer& answer,
               const std::string& hex) {
        const auto exact_backend = backend::make_exact_backend(n_threads_);
        const auto room = static_cast<int>(tokens.size() + answer.tokens.size());
        model::Transformer transformer(file_, *exact_backend,
                                       std::min(batch_tokens_max(*exact_backend), room));
        model::Session session(transformer, room);
        const std::string again = to_hex(replay_digest(session, tokens, answer, options_.sampling));
        print(fmt::format("digest {}: {}\n", backend_->name(), hex));
        print(fmt::format("digest exact: {}\n", again));
        if (hex != again) {
            throw Error(ExitCode::invalid, "the digests differ: this answer is not proved");
        }
    }

    static void print_rates(const Answer& answer) {
        if (::isatty(STDERR_FILENO) == 0) return;
        const auto n = static_cast<double>(answer.tokens.size());
        std::fprintf(stderr, "[prompt %d tokens, %.0f/s; answer %.0f tokens, %.1f/s]\n",
                     answer.n_prompt_computed, answer.n_prompt_computed / answer.prompt_seconds, n,
                     n / answer.answer_seconds);
    }

    RunOptions options_;
    int n_threads_;
    HashedModel model_;
    const weights::ModelFile& file_;
    text::Tokenizer tokenizer_;
    text::PromptLayout layout_ = text::PromptLayout::chatml;
    std::unique_ptr<backend::Backend> backend_;
    std::optional<AnswerLedger> ledger_;
    Sha256Digest model_sha256_{};
    bool is_printing_ = false;  // still: it failed
};

void run(RunOptions options) {
    const bool person = ::isatty(STDIN_FILENO) != 0;
    if (!options.has_seed && options.sampling.temperature >= exact::kTemperatureMin) {
        std::random_device device;
        options.sampling.seed = (std::uint64_t{device()} << 32) | device();
        std::fprintf(stderr, "seed: %llu\n",
                     static_cast<unsigned long long>(options.sampling.seed));
    }
    catch_interrupt();
    if (!options.has_prompt && !person) {
        options.prompt = read_stdin("the prompt");
        options.has_prompt = true;
    }
    if (!options.payload.empty() && !options.has_prompt) {
        throw Error(ExitCode::usage, "a chat has no payload", "give --payload with a PROMPT");
    }
    Run run(options);
    const ExitCode code = options.has_prompt ? run.answer_once(options.prompt) : run.chat();
    if (code == ExitCode::interrupted) throw Error(code, "interrupted");
}

}  // namespace

void add_run(CLI::App& app) {
    CLI::App* command = app.add_subcommand("run", "answer a prompt, or chat");
    const auto options = std::make_shared<RunOptions>();
    auto& sampling = options->sampling;
    command->add_option("MODEL", options->model, "model file or folder")->required();
    CLI::Option* prompt =
        command->add_option("PROMPT", options->prompt, "text to answer; read from stdin if absent");
    command->add_option("--system", options->system, "system message");
    command->add_option("--temperature", sampling.temperature, "0: the likeliest token, always")
        ->check(CLI::Range(0.0, 100.0))
        ->capture_default_str();
    command->add_option("--top-p", sampling.top_p, "smallest set of this share")
        ->check(CLI::Range(1e-6, 1.0))
        ->capture_default_str();
    command->add_option("--top-k", sampling.top_k, "the k likeliest; 0: all")
        ->check(CLI::Range(0, 1 << 22))
        ->capture_default_str();
    command->add_option("--min-p", sampling.min_p, "at least this share of the likeliest")
        ->check(CLI::Range(0.0, 0.999999))
        ->capture_default_str();
    CLI::Option* seed = command->add_option("--seed", sampling.seed, "seed; drawn when absent");
    command->add_option("--max-tokens", options->max_tokens, "longest answer")
        ->check(CLI::Range(1, 1 << 24))
        ->capture_default_str();
    command
        ->add_option("--context", options->context, "tokens of prompt and answer; 0: the model's")
        ->check(CLI::Range(0, 1 << 24));
    add_device_options(*command, options->device);
    add_backend_option(*command, options->device);
    command->add_option("--chunk", options->chunk, "prompt tokens a step; 0: as many as fit")
        ->check(CLI::Range(0, 1 << 24));
    command->add_flag("--raw", options->raw, "continue the text, no chat layout");
    command->add_flag("--digest", options->digest, "print the digest of the run");
    command->add_flag("--prove", options->prove, "compute the answer again with src/exact");
    command->add_option("--payload", options->payload,
                        "write the answer and all it depends on to this new file, for replay");
    command->add_option("--ledger", options->ledger,
                        "folder of the ledger that records the answer; absent: the user's");
    add_signature_flags(*command, options->signature);
    command->callback([options, prompt, seed] {
        options->has_prompt = prompt->count() > 0;
        options->has_seed = seed->count() > 0;
        run(*options);
    });
}

}  // namespace etalon::cli

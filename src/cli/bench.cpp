// SPDX-License-Identifier: Apache-2.0
// `etalon bench MODEL`: tokens a second, and how much of the machine they use.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "cli/all_logits.h"
#include "cli/bench_report.h"
#include "cli/commands.h"
#include "cli/load.h"
#include "cli/machine.h"
#include "cli/many_requests.h"
#include "cli/operations_bench.h"

#include "backend/cpu/peak.h"
#include "backend/cuda/cuda.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "exact/attention.h"
#include "model/memory.h"
#include "model/session.h"
#include "weights/synthetic.h"

namespace etalon::cli {

namespace {

using Clock = std::chrono::steady_clock;

// The read speed is measured on twice the largest cache, within these bounds.
constexpr std::uint64_t kReadBytesMin = std::uint64_t{256} << 20;
constexpr std::uint64_t kReadBytesMax = std::uint64_t{2} << 30;

void check_context(const weights::ModelFile& file, int n_tokens) {
    if (n_tokens <= file.config().context_length) return;
    throw Error(ExitCode::usage, fmt::format("{} tokens, the context holds {}", n_tokens,
                                             file.config().context_length));
}

Rates measure(int repetitions, int n_tokens, const std::function<void()>& work) {
    if (n_tokens == 0) return {};
    std::vector<double> seconds;
    for (int i = 0; i < repetitions; ++i) {
        const Clock::time_point start = Clock::now();
        work();
        seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
    }
    return rates_of(std::move(seconds), n_tokens);
}

TokenCost token_cost(const weights::ModelFile& file, const BenchOptions& options) {
    const weights::ModelConfig& config = file.config();
    const bool own_head = file.has("output.weight");
    TokenCost cost;
    // Which experts the streams use is not known: as many as there can be.
    const double n_used = config.n_experts_used;
    const double read_share =
        config.n_experts == 0 ? 1.0 : std::min(1.0, options.streams * n_used / config.n_experts);
    const double multiplied_share = config.n_experts == 0 ? 1.0 : n_used / config.n_experts;
    for (const weights::Tensor& tensor : file.tensors()) {
        const bool embedding = tensor.name == "token_embd.weight";
        const bool head = tensor.name == "output.weight" || (embedding && !own_head);
        if (embedding && !head) continue;  // one row is read
        const bool of_expert = weights::is_of_expert(tensor.name);
        cost.bytes_read += static_cast<double>(tensor.bytes()) * (of_expert ? read_share : 1.0);
        // A prompt computes logits of its last token only.
        if (!head && tensor.n_rows > 1) {
            cost.prompt_operations += 2.0 * static_cast<double>(tensor.n_rows) *
                                      static_cast<double>(tensor.n_cols) *
                                      (of_expert ? multiplied_share : 1.0);
        }
    }
    const double kv_token_bytes =
        2.0 * config.n_layers * config.n_kv_heads * (config.head_dim + double{sizeof(float)});
    cost.bytes_read /= options.streams;  // the weights are read once for all
    cost.bytes_read += kv_token_bytes * (options.context + (options.generate + 1) / 2.0);
    return cost;
}

/// Sequences that generate a token each in one forward pass. What stands in the cache before them
/// is zero: it changes no time.
class Streams {
  public:
    Streams(model::Transformer& transformer, int n_streams, int n_tokens_max)
        : transformer_(&transformer) {
        const backend::Backend& device = transformer.device();
        const bool draws = device.can_draw(transformer.config().vocab_size);
        follows_ = draws && device.can_follow();
        sampling_.temperature = 1.0F;
        const int n_pages = (n_tokens_max + exact::kPageTokens - 1) / exact::kPageTokens;
        const auto n = static_cast<std::size_t>(n_streams);
        kv_ = transformer.make_kv_cache(n_streams * n_pages);
        logits_ = transformer.device().make_floats(
            n * static_cast<std::size_t>(transformer.config().vocab_size));
        for (Step& step : steps_) {
            step.tokens.resize(n);
            step.positions.resize(n);
            step.failed.resize(n);
            step.draws.resize(draws ? n : 0);
            step.drawn.resize(draws ? n : 0);
        }
        for (int i = 0; i < n_streams; ++i) {
            sequences_.push_back(i);
            page_tables_.emplace_back();
            for (int page = 0; page < n_pages; ++page)
                page_tables_.back().push_back(i * n_pages + page);
        }
    }

    /// `n_tokens` each, from `position` on; with the checksums that an answer carries (CHK-1), and
    /// on a device that draws the next tokens, those. As the engine does it: where a pass can
    /// follow another one, a step starts before the one ahead of it has ended, with the tokens that
    /// this one draws; else `tokens` are those of each step.
    void run(std::span<const std::int32_t> tokens, int position, int n_tokens) {
        int n_started = 0;
        for (int i = 0; i < n_tokens; ++i) {
            const int end = std::min(n_tokens, i + (follows_ ? 2 : 1));
            while (n_started < end)
                start(n_started++, tokens, position);
            finish(i);
        }
    }

  private:
    /// What a pass is given.
    struct Step {
        std::vector<std::int32_t> tokens;
        std::vector<std::int32_t> positions;
        std::vector<std::uint8_t> failed;
        std::vector<backend::Draw> draws;
        std::vector<std::int32_t> drawn;
    };

    Step& step(int i) { return steps_[static_cast<std::size_t>(i) % steps_.size()]; }
    backend::Batch batch(Step& step) const {
        return {step.tokens, step.positions, sequences_, page_tables_, step.failed};
    }
    void start(int i, std::span<const std::int32_t> first, int position) {
        Step& now = step(i);
        for (std::size_t row = 0; row < first.size(); ++row)
            now.tokens[row] = i > 0 && follows_ ? backend::token_drawn_by(row) : first[row];
        std::fill(now.positions.begin(), now.positions.end(), position + i);
        std::fill(now.failed.begin(), now.failed.end(), std::uint8_t{0});
        for (backend::Draw& draw : now.draws) {
            draw.parameters = &sampling_;
            draw.position = static_cast<std::uint64_t>(position + i) + 1;
        }
        transformer_->start(batch(now), sequences_, *kv_, *logits_, now.draws, now.drawn);
    }
    void finish(int i) {
        transformer_->finish(batch(step(i)));
        for (std::size_t row = 0; row < sequences_.size(); ++row)
            transformer_->device().checksum(*logits_, row, transformer_->config().vocab_size);
    }

    model::Transformer* transformer_;
    bool follows_ = false;
    std::array<Step, 2> steps_;  // in turns
    exact::SamplingParameters sampling_;
    std::vector<std::int32_t> sequences_;
    std::vector<std::vector<std::int32_t>> page_tables_;
    std::unique_ptr<backend::KvCache> kv_;
    std::unique_ptr<backend::FloatBuffer> logits_;
};

double file_bytes(const weights::ModelFile& file) {
    double bytes = 0.0;
    for (const weights::Tensor& tensor : file.tensors())
        bytes += static_cast<double>(tensor.bytes());
    return bytes;
}

/// Bytes a second that all processors read from the file, mapped anew.
double measure_file(const std::string& path) {
    constexpr std::size_t kPiece = std::size_t{1} << 20;
    const auto file = weights::ModelFile::open(path);
    std::vector<std::span<const std::byte>> pieces;
    for (const weights::Tensor& tensor : file.tensors()) {
        for (std::size_t at = 0; at < tensor.data.size(); at += kPiece)
            pieces.push_back(tensor.data.subspan(at, std::min(kPiece, tensor.data.size() - at)));
    }
    ThreadPool pool(usable_processors());
    std::vector<std::vector<std::byte>> to(static_cast<std::size_t>(pool.n_threads()),
                                           std::vector<std::byte>(kPiece));
    const Clock::time_point start = Clock::now();
    pool.run(static_cast<int>(pieces.size()), [&](int i, int thread) {
        const auto& piece = pieces[static_cast<std::size_t>(i)];
        std::copy(piece.begin(), piece.end(), to[static_cast<std::size_t>(thread)].begin());
    });
    return file_bytes(file) / std::chrono::duration<double>(Clock::now() - start).count();
}

void measure_model(const BenchOptions& options, const weights::ModelFile& file, Report& report) {
    const int room = std::max({options.prompt, options.context + options.generate, 1});
    check_context(file, room);
    const auto device = make_backend(options.device);
    const int batch =
        std::max(options.streams, std::clamp(options.prompt, 1, batch_tokens_max(*device)));
    model::check_memory(file, *device, room * (1 + options.streams), batch,
                        model::available_memory(*device));
    report.backend = std::string(device->name());
    report.memory = model::memory_plan(file, *device, room * (1 + options.streams), batch).text();
    if (device->free_bytes() && !file.files().empty()) {
        (void)measure_file(file.path().string());  // from here on both read it from the cache
        report.file_speed = measure_file(file.path().string());
    }
    const Clock::time_point start = Clock::now();
    model::Transformer transformer(file, *device, batch);
    model::Session session(transformer, room);
    const auto tokens = some_tokens(room, file.config().vocab_size);
    const std::span<const std::int32_t> all(tokens);
    session.append(all.first(1), 0, model::LogitsWanted::last);  // brings the weights to memory
    if (device->free_bytes()) {
        report.load_speed =
            file_bytes(file) / std::chrono::duration<double>(Clock::now() - start).count();
    }
    report.prompt = measure(options.repetitions, options.prompt, [&] {
        session.truncate(0);
        session.append(all.first(static_cast<std::size_t>(options.prompt)), 0,
                       model::LogitsWanted::last);
    });
    report.cost = token_cost(file, options);
    if (options.generate == 0) return;
    Streams streams(transformer, options.streams, options.context + options.generate);
    const auto first = some_tokens(options.streams, file.config().vocab_size);
    report.generate = measure(options.repetitions, options.streams * options.generate,
                              [&] { streams.run(first, options.context, options.generate); });
}

void measure_processor(Report& report) {
    ThreadPool pool(report.threads);
    const backend::Isa isa = backend::choose_isa(std::getenv("ETALON_ISA"));
    report.integer_peak = backend::integer_peak(isa, pool);
    const std::uint64_t wanted = std::clamp(2 * last_cache_bytes(), kReadBytesMin, kReadBytesMax);
    const std::uint64_t affordable =
        std::max(model::available_memory() / 4, backend::kReadSliceBytes);
    report.read_speed = backend::read_speed(std::min(wanted, affordable), pool);
}

void measure_machine(const BenchOptions& options, Report& report) {
    const std::optional<int> card = chosen_cuda(options.device);
    if (!card) return measure_processor(report);
    for (const backend::CudaDevice& device : backend::cuda_state().devices) {
        if (device.index == *card) report.card = device.name;
    }
    report.read_speed = backend::cuda_read_speed(*card).value_or(0.0);
    report.integer_peak = backend::cuda_integer_peak(*card);
}

exact::Format format_of(const BenchOptions& options) {
    return *exact::format_from_name(options.format);  // the command line allows some
}

/// The synthetic model by a file. It has no name once it is open, unless the user keeps it: nothing
/// is left of it then, however the program ends.
weights::ModelFile synthetic_by_file(const BenchOptions& options) {
    namespace fs = std::filesystem;
    const bool kept = !options.keep.empty();
    const char* folder = std::getenv("TMPDIR");
    const fs::path path = kept ? fs::path(options.keep)
                               : fs::path(folder == nullptr ? "/tmp" : folder) /
                                     fmt::format("etalon-bench-{}.safetensors", ::getpid());
    weights::write_synthetic(options.synthetic, format_of(options), options.layers, path);
    struct Removal {
        const fs::path* path;  ///< nullptr: none
        ~Removal() {
            std::error_code ignored;  // nothing can be done about a file that cannot be removed
            if (path != nullptr) fs::remove(*path, ignored);
        }
    };
    const Removal once_it_is_open{kept ? nullptr : &path};
    return weights::ModelFile::open(path);
}

weights::ModelFile model_of(const BenchOptions& options) {
    if (options.synthetic.empty()) return weights::ModelFile::open(options.model);
    const exact::Format format = format_of(options);
    const bool has_file = exact::format_info(format).kind == exact::FormatKind::row_scaled;
    if (!options.keep.empty() && !has_file) {
        throw Error(ExitCode::usage,
                    fmt::format("--keep writes e8 and e4, not {}", options.format));
    }
    // A card copies the weights, so that it needs no file of 47 or 123 GB, only one layer of it. A
    // processor copies those of GGUF types.
    if (options.keep.empty() && (!has_file || chosen_cuda(options.device))) {
        return weights::synthetic_in_memory(options.synthetic, format, options.layers);
    }
    return synthetic_by_file(options);
}

/// A pass with logits at every answer position, and the replay, which draws each token again.
void bench_all_logits(const BenchOptions& options, const weights::ModelFile& file,
                      const std::string& model) {
    if (options.prompt == 0 || options.generate == 0) {
        throw Error(ExitCode::usage, "--all-logits needs a prompt and an answer",
                    "--prompt and --generate of at least 1");
    }
    const int room = options.prompt + options.generate;
    check_context(file, room);
    const int threads = threads_or_all(options.device.threads);
    const auto device = make_backend(options.device);
    model::check_memory(file, *device, 3 * room, batch_tokens_max(*device),
                        model::available_memory(*device));
    const auto rows = measure_all_logits(file, *device, options.prompt, options.generate,
                                         options.repetitions, threads);
    print_all_logits(options, model, std::string(device->name()), rows, threads);
}

/// The engine with many requests.
void bench_requests(const BenchOptions& options, const weights::ModelFile& file,
                    const std::string& model) {
    if (options.prompt == 0 || options.generate == 0) {
        throw Error(ExitCode::usage, "--requests needs a prompt and an answer",
                    "--prompt and --generate of at least 1");
    }
    check_context(file, options.prompt + options.generate);
    const auto device = make_backend(options.device);
    const ManyRequestsTime time = measure_many_requests(
        file, *device, {options.requests, options.prompt, options.generate, options.streams},
        options.repetitions);
    print_requests(options, model, std::string(device->name()), time);
}

/// Each operation of a layer alone, beside what the machine can do.
void bench_operations(const BenchOptions& options, const weights::ModelFile& file, Report& report) {
    check_context(file, std::max(options.prompt, options.context + 1));
    std::vector<OperationsTable> tables;
    {
        const auto device = make_backend(options.device);
        report.backend = std::string(device->name());
        tables =
            measure_operations(file, *device, options.prompt, options.streams, options.context);
    }
    measure_machine(options, report);
    print_operations(options, tables, report);
}

void bench(const BenchOptions& asked) {
    BenchOptions options = asked;
    if ((options.requests > 0 ? 1 : 0) + (options.operations ? 1 : 0) +
            (options.all_logits ? 1 : 0) >
        1) {
        throw Error(ExitCode::usage,
                    "--requests, --operations and --all-logits exclude each other");
    }
    if (options.streams == 0 && options.requests == 0) options.streams = 1;

    if (options.model.empty() == options.synthetic.empty()) {
        throw Error(ExitCode::usage, "one of MODEL and --synthetic is needed",
                    "etalon bench --help");
    }
    Report report;
    report.threads = threads_or_all(options.device.threads);
    {
        const auto file = model_of(options);
        report.model = options.synthetic.empty() ? file.path().string() : file.config().name;
        if (options.all_logits) return bench_all_logits(options, file, report.model);
        if (options.operations) return bench_operations(options, file, report);
        if (options.requests > 0) return bench_requests(options, file, report.model);
        measure_model(options, file, report);
    }
    measure_machine(options, report);
    print_report(options, report);
}

}  // namespace

void add_bench(CLI::App& app) {
    CLI::App* command = app.add_subcommand("bench", "measure speed on this machine");
    const auto options = std::make_shared<BenchOptions>();
    command->add_option("MODEL", options->model, "model file or folder");
    command->add_option("--prompt", options->prompt, "tokens of the prompt; 0: not measured")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    command
        ->add_option("--generate", options->generate,
                     "tokens that a stream generates; 0: not measured")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    command->add_option("--repetitions", options->repetitions, "the median of these is printed")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str();
    command
        ->add_option("--streams", options->streams,
                     "sequences that generate together; by default one, and with --requests as "
                     "many as a server lets")
        ->check(CLI::Range(1, 1024));
    command
        ->add_option("--requests", options->requests,
                     "the engine with so many requests of --prompt and --generate tokens")
        ->check(CLI::Range(1, 10000));
    command->add_option("--context", options->context, "tokens before the generated ones")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str();
    add_device_options(*command, options->device);
    CLI::Option* synthetic =
        command
            ->add_option("--synthetic", options->synthetic,
                         "random weights of a named shape: a processor reads e8 and e4 from a "
                         "file, by default one that is removed afterwards; other formats, and all "
                         "on a card, come from memory, one layer for all")
            ->check(CLI::IsMember(weights::synthetic_names()));
    command->add_option("--layers", options->layers, "of the synthetic model; 0: all of the shape")
        ->check(CLI::Range(0, 1024))
        ->needs(synthetic);
    command->add_option("--as", options->format, "format of the synthetic weights")
        ->check(CLI::IsMember({"e8", "e4", "q8_0", "q4_k"}))
        ->needs(synthetic)
        ->capture_default_str();
    command->add_option("--keep", options->keep, "write the synthetic model here and keep it")
        ->needs(synthetic);
    command->add_flag("--operations", options->operations,
                      "each operation of a layer alone: a prompt of --prompt tokens, and a token "
                      "of --streams sequences behind --context");
    command->add_flag("--all-logits", options->all_logits,
                      "a pass with logits of the whole answer, and the replay of that answer");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { bench(*options); });
}

}  // namespace etalon::cli

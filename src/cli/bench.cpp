// SPDX-License-Identifier: Apache-2.0
// `etalon bench MODEL`: tokens a second, and how much of the machine they use.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <functional>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <system_error>
#include <unistd.h>
#include <vector>

#include "cli/all_logits.h"
#include "cli/commands.h"
#include "cli/load.h"
#include "cli/machine.h"
#include "cli/many_requests.h"
#include "cli/operations_bench.h"
#include "cli/output.h"

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

struct BenchOptions {
    std::string model;
    std::string synthetic;
    std::string format = "e8";
    std::string keep;
    int layers = 0;
    int prompt = 512;
    int generate = 128;
    int streams = 0;
    int context = 0;
    int repetitions = 5;
    DeviceOptions device;
    bool all_logits = false;
    int requests = 0;
    bool operations = false;
    bool json = false;
};

struct Rates {
    double median = 0.0;  ///< tokens a second
    double least = 0.0;
    double most = 0.0;
};

/// What a token costs, from the shapes alone.
struct TokenCost {
    double bytes_read = 0.0;         ///< a generated token: weights, and keys and values so far
    double prompt_operations = 0.0;  ///< a prompt token: multiplications and additions
};

struct Report {
    std::string model;
    std::string backend;
    std::string card;    ///< its name; empty: the processor
    std::string memory;  ///< what is planned
    int threads = 0;
    Rates prompt;
    Rates generate;
    TokenCost cost;
    double read_speed = 0.0;  ///< bytes a second
    double load_speed = 0.0;  ///< bytes of the file a second, to a card; 0: it is used in place
    double file_speed = 0.0;  ///< what the same threads read of it from the cache or the disk
    std::optional<double> integer_peak;  ///< operations a second
};

Rates rates_of(std::vector<double> seconds, int n_tokens) {
    std::sort(seconds.begin(), seconds.end());
    const std::size_t middle = seconds.size() / 2;
    const double median =
        seconds.size() % 2 == 1 ? seconds[middle] : (seconds[middle - 1] + seconds[middle]) / 2.0;
    return {n_tokens / median, n_tokens / seconds.back(), n_tokens / seconds.front()};
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
    for (const weights::Tensor& tensor : file.tensors()) {
        const bool embedding = tensor.name == "token_embd.weight";
        const bool head = tensor.name == "output.weight" || (embedding && !own_head);
        if (embedding && !head) continue;  // one row is read
        cost.bytes_read += static_cast<double>(tensor.data.size() + tensor.scales.size());
        // A prompt computes logits of its last token only.
        if (!head && tensor.n_rows > 1) {
            cost.prompt_operations +=
                2.0 * static_cast<double>(tensor.n_rows) * static_cast<double>(tensor.n_cols);
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
        : transformer_(&transformer),
          failed_(static_cast<std::size_t>(n_streams)),
          draws_(transformer.device().can_draw(transformer.config().vocab_size) ? failed_.size()
                                                                                : 0),
          drawn_(draws_.size()) {
        sampling_.temperature = 1.0F;
        const int n_pages = (n_tokens_max + exact::kPageTokens - 1) / exact::kPageTokens;
        kv_ = transformer.make_kv_cache(n_streams * n_pages);
        logits_ = transformer.device().make_floats(
            failed_.size() * static_cast<std::size_t>(transformer.config().vocab_size));
        for (int i = 0; i < n_streams; ++i) {
            sequences_.push_back(i);
            page_tables_.emplace_back();
            for (int page = 0; page < n_pages; ++page)
                page_tables_.back().push_back(i * n_pages + page);
        }
    }

    /// One token each, at `position`; with the checksums that an answer carries (CHK-1), and on a
    /// device that draws the next tokens, those.
    void step(std::span<const std::int32_t> tokens, int position) {
        const std::vector<std::int32_t> positions(sequences_.size(), position);
        const backend::Batch batch{tokens, positions, sequences_, page_tables_, failed_};
        for (std::size_t i = 0; i < draws_.size(); ++i) {
            draws_[i].parameters = &sampling_;
            draws_[i].position = static_cast<std::uint64_t>(position) + 1;
        }
        transformer_->start(batch, sequences_, *kv_, *logits_, draws_, drawn_);
        transformer_->finish(batch);
        for (std::size_t row = 0; row < sequences_.size(); ++row)
            transformer_->device().checksum(*logits_, row, transformer_->config().vocab_size);
    }

  private:
    model::Transformer* transformer_;
    std::vector<std::uint8_t> failed_;
    exact::SamplingParameters sampling_;
    std::vector<backend::Draw> draws_;
    std::vector<std::int32_t> drawn_;
    std::vector<std::int32_t> sequences_;
    std::vector<std::vector<std::int32_t>> page_tables_;
    std::unique_ptr<backend::KvCache> kv_;
    std::unique_ptr<backend::FloatBuffer> logits_;
};

double file_bytes(const weights::ModelFile& file) {
    double bytes = 0.0;
    for (const weights::Tensor& tensor : file.tensors())
        bytes += static_cast<double>(tensor.data.size() + tensor.scales.size());
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
    if (room > file.config().context_length) {
        throw Error(ExitCode::usage, fmt::format("{} tokens, the context holds {}", room,
                                                 file.config().context_length));
    }
    const auto device = make_backend(options.device);
    const int batch =
        std::max(options.streams, std::clamp(options.prompt, 1, batch_tokens_max(*device)));
    model::check_memory(file, *device, room * (1 + options.streams), batch,
                        model::available_memory(*device));
    report.backend = std::string(device->name());
    report.memory = model::memory_plan(file, *device, room * (1 + options.streams), batch).text();
    if (device->free_bytes()) report.file_speed = measure_file(file.path().string());
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
    report.generate = measure(options.repetitions, options.streams * options.generate, [&] {
        for (int i = 0; i < options.generate; ++i)
            streams.step(first, options.context + i);
    });
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

void print_machine(const Report& report) {
    constexpr double kGiga = 1e9;
    constexpr double kTera = 1e12;
    print_field(
        "machine",
        fmt::format("reads {:.1f} GB/s, integer peak {}", report.read_speed / kGiga,
                    report.integer_peak ? fmt::format("{:.3f} TOPS", *report.integer_peak / kTera)
                                        : "unknown"));
}

void print_plain(const BenchOptions& options, const Report& report) {
    constexpr double kGiga = 1e9;
    constexpr double kTera = 1e12;
    constexpr double kPercent = 100.0;
    print_field("model", report.model);
    print_field("path", report.card.empty()
                            ? fmt::format("{}, {} threads", report.backend, report.threads)
                            : fmt::format("{}, {}", report.backend, report.card));
    const double operations = report.prompt.median * report.cost.prompt_operations;
    const double bytes = report.generate.median * report.cost.bytes_read;
    print_field("memory", report.memory);
    if (report.load_speed > 0.0) {
        print_field("loading", fmt::format("{:.1f} GB/s with the first token, {:.0f} % of {:.1f} "
                                           "GB/s that the file is read with",
                                           report.load_speed / kGiga,
                                           kPercent * report.load_speed / report.file_speed,
                                           report.file_speed / kGiga));
    }
    if (options.prompt > 0) {
        print_field("prompt", fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={}), {} tokens",
                                          report.prompt.median, report.prompt.least,
                                          report.prompt.most, options.repetitions, options.prompt));
        print_field(
            "  integer rate",
            fmt::format("{:.3f} TOPS, {} of the peak", operations / kTera,
                        report.integer_peak
                            ? fmt::format("{:.1f} %", kPercent * operations / *report.integer_peak)
                            : "unknown"));
    }
    if (options.generate > 0) {
        print_field(
            "generation",
            fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={}), {} streams of {} tokens "
                        "behind {}",
                        report.generate.median, report.generate.least, report.generate.most,
                        options.repetitions, options.streams, options.generate, options.context));
        print_field("  bytes a token",
                    count_text(static_cast<std::uint64_t>(report.cost.bytes_read)));
        print_field("  read rate",
                    fmt::format("{:.1f} GB/s, {:.1f} % of the read speed", bytes / kGiga,
                                kPercent * bytes / report.read_speed));
    }
    print_machine(report);
}

void print_report_json(const BenchOptions& options, const Report& report) {
    using nlohmann::ordered_json;
    const auto rates = [&](const Rates& r, int n_tokens) -> ordered_json {
        if (n_tokens == 0) return nullptr;
        return {{"tokens", n_tokens},
                {"tokens_per_second", r.median},
                {"least", r.least},
                {"most", r.most},
                {"repetitions", options.repetitions}};
    };
    const double operations = report.prompt.median * report.cost.prompt_operations;
    const double bytes = report.generate.median * report.cost.bytes_read;
    ordered_json peak = nullptr;
    ordered_json peak_share = nullptr;
    if (report.integer_peak) peak = *report.integer_peak;
    if (report.integer_peak && options.prompt > 0) peak_share = operations / *report.integer_peak;
    print_json({{"model", report.model},
                {"backend", report.backend},
                {"card", report.card.empty() ? ordered_json(nullptr) : ordered_json(report.card)},
                {"threads", report.threads},
                {"prompt", rates(report.prompt, options.prompt)},
                {"generation", rates(report.generate, options.generate)},
                {"streams", options.streams},
                {"context", options.context},
                {"bytes_per_token", report.cost.bytes_read},
                {"operations_per_prompt_token", report.cost.prompt_operations},
                {"load_bytes_per_second", report.load_speed},
                {"file_bytes_per_second", report.file_speed},
                {"read_bytes_per_second", report.read_speed},
                {"read_share", options.generate > 0 ? ordered_json(bytes / report.read_speed)
                                                    : ordered_json(nullptr)},
                {"integer_operations_per_second", peak},
                {"integer_share", peak_share}});
}

/// The synthetic model's file; removed with the object unless the user keeps it.
class SyntheticFile {
  public:
    explicit SyntheticFile(const BenchOptions& options) : kept_(!options.keep.empty()) {
        const char* folder = std::getenv("TMPDIR");
        path_ = kept_ ? std::filesystem::path(options.keep)
                      : std::filesystem::path(folder == nullptr ? "/tmp" : folder) /
                            fmt::format("etalon-bench-{}.safetensors", ::getpid());
        weights::write_synthetic_e8(options.synthetic, options.layers, path_);
    }
    ~SyntheticFile() {
        std::error_code ignored;  // nothing useful can be done about a file that cannot be removed
        if (!kept_) std::filesystem::remove(path_, ignored);
    }
    SyntheticFile(const SyntheticFile&) = delete;
    SyntheticFile& operator=(const SyntheticFile&) = delete;

    std::string path() const { return path_.string(); }

  private:
    std::filesystem::path path_;
    bool kept_;
};

/// The median of what a replay reaches of the pass that ran just before it: a machine that is slow
/// for a while is slow for both.
double ratio_of(const AllLogitsRow& row) {
    std::vector<double> ratios;
    for (std::size_t i = 0; i < row.pass_seconds.size(); ++i)
        ratios.push_back(row.pass_seconds[i] / row.replay_seconds[i]);
    std::sort(ratios.begin(), ratios.end());
    return ratios[ratios.size() / 2];
}

void print_all_logits(const BenchOptions& options, const std::string& model,
                      const std::string& backend, const std::vector<AllLogitsRow>& rows,
                      int threads) {
    using nlohmann::ordered_json;
    const auto rate_json = [](const Rates& r) -> ordered_json {
        return {{"tokens_per_second", r.median}, {"least", r.least}, {"most", r.most}};
    };
    ordered_json json{{"model", model},
                      {"backend", backend},
                      {"threads", threads},
                      {"prompt", options.prompt},
                      {"answer", options.generate},
                      {"repetitions", options.repetitions},
                      {"rows", ordered_json::array()}};
    if (!options.json) {
        print_field("model", model);
        print_field("path", fmt::format("{}, {} threads", backend, threads));
        print_field("tokens",
                    fmt::format("prompt {}, answer {}", options.prompt, options.generate));
    }
    for (const AllLogitsRow& row : rows) {
        const Rates pass = rates_of(row.pass_seconds, row.n_tokens);
        const Rates replay = rates_of(row.replay_seconds, row.n_tokens);
        const double ratio = ratio_of(row);
        json["rows"].push_back({{"sampling", row.sampling},
                                {"pass", rate_json(pass)},
                                {"replay", rate_json(replay)},
                                {"ratio", ratio}});
        if (options.json) continue;
        const auto text = [&](const Rates& r) {
            return fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={})", r.median, r.least, r.most,
                               options.repetitions);
        };
        print_field(row.sampling, "");
        print_field("  pass", text(pass));
        print_field("  replay",
                    fmt::format("{}, {:.1f} % of the pass", text(replay), 100.0 * ratio));
    }
    if (options.json) print_json(json);
}

/// A pass with logits at every answer position, and the replay, which draws each token again.
void bench_all_logits(const BenchOptions& options, const weights::ModelFile& file,
                      const std::string& model) {
    if (options.prompt == 0 || options.generate == 0) {
        throw Error(ExitCode::usage, "--all-logits needs a prompt and an answer",
                    "--prompt and --generate of at least 1");
    }
    const int room = options.prompt + options.generate;
    if (room > file.config().context_length) {
        throw Error(ExitCode::usage, fmt::format("{} tokens, the context holds {}", room,
                                                 file.config().context_length));
    }
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
    const auto device = make_backend(options.device);
    const ManyRequestsTime time = measure_many_requests(
        file, *device, {options.requests, options.prompt, options.generate, options.streams},
        options.repetitions);
    const Rates answer = rates_of(time.seconds, options.requests * options.generate);
    if (options.json) {
        print_json({{"model", model},
                    {"backend", std::string(device->name())},
                    {"requests", options.requests},
                    {"prompt", options.prompt},
                    {"answer", options.generate},
                    {"streams", time.n_streams},
                    {"batch", time.n_batch},
                    {"steps", time.n_steps},
                    {"answer_tokens_per_second", answer.median},
                    {"least", answer.least},
                    {"most", answer.most},
                    {"repetitions", options.repetitions}});
        return;
    }
    print_field("model", model);
    print_field("path", std::string(device->name()));
    print_field("requests", fmt::format("{}, prompt {}, answer {}; {} at once, {} tokens a step",
                                        options.requests, options.prompt, options.generate,
                                        time.n_streams, time.n_batch));
    print_field("answers",
                fmt::format("{:.1f} tokens/s ({:.1f}..{:.1f}, n={}), {} steps", answer.median,
                            answer.least, answer.most, options.repetitions, time.n_steps));
}

/// What a value is of a limit.
std::string share_text(double value, double limit) {
    constexpr double kPercent = 100.0;
    return value > 0.0 && limit > 0.0 ? fmt::format("{:.0f} %", kPercent * value / limit) : "-";
}

void print_operations(const OperationsTable& table, const Report& report) {
    constexpr double kMicro = 1e6;
    constexpr double kMega = 1e6;
    constexpr double kGiga = 1e9;
    std::cout << fmt::format("\na layer, {}\n{:<14} {:>9} {:>10} {:>8} {:>10} {:>8}\n", table.batch,
                             "operation", "us", "MB", "of read", "Gop", "of int8");
    double seconds = 0.0;
    for (const OperationTime& row : table.rows) {
        seconds += row.seconds;
        std::cout << fmt::format(
            "{:<14} {:>9.1f} {:>10.1f} {:>8} {:>10.1f} {:>8}\n", row.name, row.seconds * kMicro,
            row.bytes / kMega, share_text(row.bytes / row.seconds, report.read_speed),
            row.operations / kGiga,
            share_text(row.operations / row.seconds, report.integer_peak.value_or(0.0)));
    }
    std::cout << fmt::format("{:<14} {:>9.1f}\n", "all", seconds * kMicro);
}

/// Each operation of a layer alone, beside what the machine can do.
void bench_operations(const BenchOptions& options, const weights::ModelFile& file, Report& report) {
    using nlohmann::ordered_json;
    std::vector<OperationsTable> tables;
    {
        const auto device = make_backend(options.device);
        report.backend = std::string(device->name());
        tables =
            measure_operations(file, *device, options.prompt, options.streams, options.context);
    }
    measure_machine(options, report);
    if (!options.json) {
        print_field("model", report.model);
        print_field("path", report.backend);
        print_machine(report);
        for (const OperationsTable& table : tables)
            print_operations(table, report);
        return;
    }
    ordered_json json{{"model", report.model},
                      {"backend", report.backend},
                      {"read_bytes_per_second", report.read_speed},
                      {"integer_operations_per_second", report.integer_peak.value_or(0.0)},
                      {"tables", ordered_json::array()}};
    for (const OperationsTable& table : tables) {
        ordered_json rows = ordered_json::array();
        for (const OperationTime& row : table.rows) {
            rows.push_back({{"operation", row.name},
                            {"seconds", row.seconds},
                            {"bytes", row.bytes},
                            {"operations", row.operations}});
        }
        json["tables"].push_back(
            {{"batch", table.batch}, {"tokens", table.n_tokens}, {"layer", std::move(rows)}});
    }
    print_json(json);
}

void bench(const BenchOptions& asked) {
    BenchOptions options = asked;
    if (options.streams == 0 && options.requests == 0) options.streams = 1;

    if (options.model.empty() == options.synthetic.empty()) {
        throw Error(ExitCode::usage, "one of MODEL and --synthetic is needed",
                    "etalon bench --help");
    }
    std::optional<SyntheticFile> synthetic;
    if (!options.synthetic.empty()) synthetic.emplace(options);
    Report report;
    report.threads = threads_or_all(options.device.threads);
    {
        const auto file = weights::ModelFile::open(synthetic ? synthetic->path() : options.model);
        report.model = synthetic ? file.config().name : file.path().string();
        if (options.all_logits) return bench_all_logits(options, file, report.model);
        if (options.operations) return bench_operations(options, file, report);
        if (options.requests > 0) return bench_requests(options, file, report.model);
        measure_model(options, file, report);
    }
    measure_machine(options, report);
    if (options.json) {
        print_report_json(options, report);
    } else {
        print_plain(options, report);
    }
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
    command->add_option("--synthetic", options->synthetic, "random weights of a named shape")
        ->check(CLI::IsMember(weights::synthetic_names()));
    command->add_option("--layers", options->layers, "of the synthetic model; 0: all of the shape")
        ->check(CLI::Range(0, 1024));
    command->add_option("--as", options->format, "format of the synthetic weights")
        ->check(CLI::IsMember({"e8"}))
        ->capture_default_str();
    command->add_option("--keep", options->keep, "write the synthetic model here and keep it");
    command->add_flag("--operations", options->operations,
                      "each operation of a layer alone: a prompt of --prompt tokens, and a token "
                      "of --streams sequences behind --context");
    command->add_flag("--all-logits", options->all_logits,
                      "a pass with logits of the whole answer, and the replay of that answer");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { bench(*options); });
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// What several commands make before they compute.
#include "cli/load.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fmt/format.h>

#include "backend/cuda/cuda.h"
#include "base/error.h"
#include "base/thread_pool.h"

namespace etalon::cli {

namespace {

// Largest batches of a prompt: more tokens at once make no operation faster.
constexpr int kCpuBatchTokensMax = 512;
constexpr int kCudaBatchTokensMax = 4096;

}  // namespace

std::string check_device_name(const std::string& name) {
    if (name == "auto" || name == "cpu" || backend::cuda_number(name)) return "";
    return fmt::format("{} is none of auto, cpu, cuda, cuda:N", printable(name));
}

void add_device_options(CLI::App& command, DeviceOptions& options) {
    command.add_option("--threads", options.threads, "threads; 0: one a processor")
        ->check(CLI::Range(0, kThreadsMax));
    command
        .add_option("--device", options.device,
                    "auto, cpu, or cuda:N; auto: the first card that can be used, else cpu")
        ->check(CLI::Validator(check_device_name, ""))
        ->capture_default_str();
}

void add_backend_option(CLI::App& command, DeviceOptions& options) {
    command
        .add_option("--backend", options.backend,
                    "cpu or exact (the reference); without it --device decides")
        ->check(CLI::IsMember({"cpu", "exact"}));
}

std::optional<int> chosen_cuda(const DeviceOptions& options) {
    const std::optional<int> asked = backend::cuda_number(options.device);
    if (!options.backend.empty()) {
        if (!asked) return std::nullopt;
        throw Error(ExitCode::usage,
                    fmt::format("--backend {} runs on the processor, --device {}", options.backend,
                                options.device),
                    "give one of both");
    }
    // A forced instruction set is a path of the processor.
    if (options.device != "auto" || std::getenv("ETALON_ISA") != nullptr) return asked;
    return backend::first_usable_card();
}

std::unique_ptr<backend::Backend> make_backend(const DeviceOptions& options) {
    if (const std::optional<int> card = chosen_cuda(options))
        return backend::make_cuda_backend(*card);
    const int n_threads = threads_or_all(options.threads);
    if (options.backend == "exact") return backend::make_exact_backend(n_threads);
    return backend::make_cpu_backend(backend::choose_isa(std::getenv("ETALON_ISA")), n_threads);
}

int batch_tokens_max(const backend::Backend& backend) {
    return backend.free_bytes() ? kCudaBatchTokensMax : kCpuBatchTokensMax;
}

int threads_or_all(int n_threads) {
    return n_threads > 0 ? n_threads : usable_processors();
}

std::vector<std::int32_t> some_tokens(int n_tokens, int vocab_size) {
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < n_tokens; ++i)
        tokens.push_back(static_cast<std::int32_t>((std::int64_t{i} * 7919 + 1) % vocab_size));
    return tokens;
}

text::Tokenizer load_tokenizer(const weights::ModelFile& file) {
    try {
        return text::Tokenizer(file.tokenizer());
    } catch (const Error& error) {
        const std::string name = printable(file.path().string());
        throw Error(error.code(), fmt::format("{} ({})", error.message(), name), error.hint());
    }
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// From a path to an engine.
#include "worker/loaded_model.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "model/memory.h"
#include "worker/limits.h"

namespace etalon::worker {

namespace {

text::Tokenizer make_tokenizer(const weights::ModelFile& file) {
    try {
        return text::Tokenizer(file.tokenizer());
    } catch (const Error& error) {
        const std::string name = printable(file.path().string());
        throw Error(error.code(), fmt::format("{} ({})", error.message(), name), error.hint());
    }
}

std::unique_ptr<backend::Backend> make_backend(const ModelOptions& options) {
    const int n_threads = options.threads > 0 ? options.threads : usable_processors();
    if (options.backend == "exact") return backend::make_exact_backend(n_threads);
    return backend::make_cpu_backend(backend::choose_isa(options.isa), n_threads);
}

/// The hash that names the weights: of the file, where there is one.
std::string hash_of(const weights::ModelFile& file) {
    if (file.files().size() != 1) return "";
    return to_hex(sha256(file.files().front().bytes()));
}

int context_of(const weights::ModelConfig& config, int asked) {
    return asked > 0 ? std::min(asked, config.context_length) : config.context_length;
}

}  // namespace

LoadedModel::LoadedModel(const ModelOptions& options, std::unique_ptr<backend::Backend> card)
    : file_(weights::ModelFile::open(options.path, options.check)),
      tokenizer_(make_tokenizer(file_)),
      layout_(text::layout_of(tokenizer_.data())),
      fim_(text::fim_tokens_of(tokenizer_.data())),
      backend_(card ? std::move(card) : make_backend(options)) {
    const engine::EngineOptions limits = engine_options(options);
    model::check_memory(file_, *backend_, limits.n_pages * exact::kPageTokens, limits.batch_tokens,
                        available_bytes(options));
    if (on_card()) {
        const auto plan = model::memory_plan(file_, *backend_, limits.n_pages * exact::kPageTokens,
                                             limits.batch_tokens);
        fmt::print(stderr, "etalon: {}: {}; {} MiB are free\n", backend_->name(), plan.text(),
                   available_bytes(options) >> 20);
    }
    transformer_ = std::make_unique<model::Transformer>(file_, *backend_, limits.batch_tokens);
    engine_ = std::make_unique<engine::Engine>(*transformer_, tokenizer_, limits);
    room_ = engine_->room();
    room_.context_tokens = context_of(file_.config(), options.context);
    if (options.hash) sha256_ = options.sha256.empty() ? hash_of(file_) : options.sha256;
}

/// A card has memory of its own.
std::uint64_t LoadedModel::available_bytes(const ModelOptions& options) const {
    return on_card() ? model::available_memory(*backend_) : options.available_bytes;
}

engine::EngineOptions LoadedModel::engine_options(const ModelOptions& options) const {
    engine::EngineOptions limits;
    limits.batch_tokens = on_card() ? kCardBatchTokens : kBatchTokens;
    limits.sequences_max = on_card() ? kCardSequencesMax : kSequencesMax;
    if (on_card()) limits.draft_tokens_max = kCardDraftTokensMax;
    limits.n_pages = cache_pages(options);
    limits.entropy = options.entropy;
    limits.overlap = on_card();
    return limits;
}

int LoadedModel::cache_pages(const ModelOptions& options) const {
    const std::uint64_t page_bytes = engine::kv_page_bytes(file_.config());
    std::uint64_t n_pages = options.cache_bytes / page_bytes;
    if (options.cache_bytes == 0) {
        const std::uint64_t needed =
            model::needed_memory(file_, *backend_, 0, on_card() ? kCardBatchTokens : kBatchTokens);
        const std::uint64_t available = available_bytes(options);
        const std::uint64_t left = available - std::min(available, needed);
        const auto context =
            static_cast<std::uint64_t>(context_of(file_.config(), options.context));
        const std::uint64_t context_pages = (context + exact::kPageTokens - 1) / exact::kPageTokens;
        // A cache of nothing would fit in no memory; one page lets check_memory say what is needed.
        n_pages =
            std::clamp<std::uint64_t>(left / 2 / page_bytes, 1, kDefaultContexts * context_pages);
    }
    constexpr std::uint64_t kPagesMax =
        INT32_MAX / exact::kPageTokens;  // tokens are counted in int
    if (n_pages == 0) {
        throw Error(ExitCode::usage,
                    fmt::format("--cache-bytes {}: a page of the cache has {} bytes",
                                options.cache_bytes, page_bytes));
    }
    return static_cast<int>(std::min(n_pages, kPagesMax));
}

wire::Hello LoadedModel::hello() const {
    const weights::ModelConfig& config = file_.config();
    wire::Hello hello;
    hello.model = printable(config.name.empty() ? file_.path().stem().string() : config.name);
    hello.file_sha256 = sha256_;
    hello.architecture = printable(config.architecture);
    hello.backend = backend_->name();
    if (layout_) hello.layout = text::layout_name(*layout_);
    hello.has_fim = fim_.has_value();
    hello.vocab_size = config.vocab_size;
    hello.context_tokens = room_.context_tokens;
    hello.dim = config.dim;
    hello.cache_tokens = room_.cache_tokens;
    hello.weights_bytes = file_.weights_bytes();
    hello.cache_bytes = room_.kv_token_bytes * static_cast<std::uint64_t>(room_.cache_tokens);
    return hello;
}

}  // namespace etalon::worker

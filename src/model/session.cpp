// SPDX-License-Identifier: Apache-2.0
// One sequence through the transformer, with pages of its own.
#include "model/session.h"

#include <algorithm>
#include <fmt/format.h>
#include <numeric>

#include "base/error.h"
#include "exact/attention.h"

namespace etalon::model {

namespace {

// Logits of this many positions are held at once when all are wanted: 64 rows of 128k floats are
// 32 MiB.
constexpr int kLogitsRows = 64;

}  // namespace

Session::Session(Transformer& transformer, int n_tokens_max)
    : transformer_(&transformer), n_tokens_max_(n_tokens_max) {
    ETALON_ASSERT(n_tokens_max >= 1 && n_tokens_max <= transformer.config().context_length);
    const int n_pages = (n_tokens_max + exact::kPageTokens - 1) / exact::kPageTokens;
    kv_ = transformer.make_kv_cache(n_pages);
    page_tables_.resize(1);
    page_tables_[0].resize(static_cast<std::size_t>(n_pages));
    std::iota(page_tables_[0].begin(), page_tables_[0].end(), 0);
    const auto vocab = static_cast<std::size_t>(transformer.config().vocab_size);
    logits_ = transformer.device().make_floats(kLogitsRows * vocab);
}

void Session::append(std::span<const std::int32_t> tokens, int chunk, LogitsWanted wanted) {
    ETALON_ASSERT(!tokens.empty() && chunk >= 0);
    const std::size_t room = static_cast<std::size_t>(n_tokens_max_) - tokens_.size();
    if (tokens.size() > room) {
        throw Error(ExitCode::usage,
                    fmt::format("{} tokens do not fit: {} of the context of {} are left",
                                tokens.size(), room, n_tokens_max_));
    }
    int step =
        chunk == 0 ? transformer_->n_tokens_max() : std::min(chunk, transformer_->n_tokens_max());
    if (wanted == LogitsWanted::all) step = std::min(step, kLogitsRows);
    while (!tokens.empty()) {
        const std::size_t n = std::min(tokens.size(), static_cast<std::size_t>(step));
        run_chunk(tokens.first(n), wanted, n == tokens.size());
        tokens = tokens.subspan(n);
    }
}

void Session::run_chunk(std::span<const std::int32_t> tokens, LogitsWanted wanted, bool is_last) {
    const std::size_t n = tokens.size();
    const auto vocab_size = transformer_->config().vocab_size;
    const auto vocab = static_cast<std::size_t>(vocab_size);
    std::vector<std::int32_t> positions(n);
    std::iota(positions.begin(), positions.end(), static_cast<std::int32_t>(tokens_.size()));
    const std::vector<std::int32_t> sequence_of(n, 0);
    std::vector<std::uint8_t> failed(n, 0);
    const backend::Batch batch{tokens, positions, sequence_of, page_tables_, failed};
    std::vector<std::int32_t> rows;
    if (wanted == LogitsWanted::all) {
        rows.resize(n);
        std::iota(rows.begin(), rows.end(), 0);
    } else if (is_last) {
        rows.push_back(static_cast<std::int32_t>(n) - 1);
    }
    transformer_->forward(batch, rows, *kv_, *logits_);
    const auto bad = std::find(failed.begin(), failed.end(), 1);
    if (bad != failed.end()) {
        const auto position = static_cast<std::ptrdiff_t>(tokens_.size()) + (bad - failed.begin());
        throw Error(ExitCode::failure,
                    fmt::format("token {}: a value is not finite (ERR-1)", position),
                    "the weights may be damaged: download the model again");
    }
    checksums_.resize(tokens_.size() + n, 0);
    backend::Backend& device = transformer_->device();
    last_logits_.resize(rows.empty() ? last_logits_.size() : vocab);
    for (std::size_t i = 0; i < rows.size(); ++i) {
        const std::size_t position = tokens_.size() + static_cast<std::size_t>(rows[i]);
        checksums_[position] = device.checksum(*logits_, i, vocab_size);
        if (on_logits || i + 1 == rows.size()) device.download(*logits_, i * vocab, last_logits_);
        if (on_logits) on_logits(static_cast<int>(position), last_logits_);
    }
    tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void Session::truncate(int n_tokens) {
    ETALON_ASSERT(n_tokens >= 0 && static_cast<std::size_t>(n_tokens) <= tokens_.size());
    tokens_.resize(static_cast<std::size_t>(n_tokens));
    checksums_.resize(static_cast<std::size_t>(n_tokens));
}

}  // namespace etalon::model

// SPDX-License-Identifier: Apache-2.0
// Hidden states and logits of prompt tokens.
#include "engine/prompt_reader.h"

#include <algorithm>

#include "base/error.h"
#include "engine/sampler.h"
#include "exact/quantize.h"

namespace etalon::engine {

namespace {

/// Rows of logits that are read at once: enough for the head's weights to be read seldom.
constexpr std::size_t kRows = 16;

}  // namespace

PromptReader::PromptReader(model::Transformer& transformer)
    : transformer_(&transformer), row_(static_cast<std::size_t>(transformer.config().vocab_size)) {}

std::optional<int> PromptReader::add_to_pool(const Share& share, std::size_t first,
                                             const StepBatch& batch) {
    Sequence& sequence = *share.sequence;
    const auto dim = static_cast<std::size_t>(transformer_->config().dim);
    if (hidden_.empty()) {
        failed_.assign(batch.n_tokens(), 0);
        hidden_ = transformer_->hidden_states(batch.view(failed_));
    }
    if (sequence.n_computed == 0) sequence.pool.emplace(dim);  // again behind a preemption
    for (int k = 0; k < share.n_tokens; ++k) {
        const std::size_t token = first + static_cast<std::size_t>(k);
        if (failed_[token] != 0) return sequence.n_computed + k;
        sequence.pool->add(std::span(hidden_).subspan(token * dim, dim));  // VEC-2
    }
    return std::nullopt;
}

void PromptReader::read_rows(const StepBatch& batch, std::span<const std::int32_t> rows) {
    if (!logits_) logits_ = transformer_->device().make_floats(kRows * row_.size());
    failed_.assign(batch.n_tokens(), 0);
    hidden_.clear();  // its flags are gone
    transformer_->head(batch.view(failed_), rows, *logits_);
}

std::optional<int> PromptReader::logprobs(const Share& share, std::size_t first,
                                          const StepBatch& batch, PromptLogprobs& told) {
    const Sequence& sequence = *share.sequence;
    const std::vector<std::int32_t>& prompt = sequence.request->prompt;
    if (sequence.n_prompt_told == 0) {
        told.tokens.push_back(prompt.front());
        told.logprobs.emplace_back();
    }
    // The logits at a position are those of the token behind it.
    const int n_told = std::max(sequence.n_prompt_told, 1);
    const int begin = std::max(sequence.n_computed, n_told - 1);
    const int end = std::min(sequence.n_computed + share.n_tokens, sequence.n_prompt() - 1);
    std::vector<std::int32_t> rows;
    for (int position = begin; position < end; ++position) {
        rows.push_back(static_cast<std::int32_t>(first) + position - sequence.n_computed);
        if (rows.size() < kRows && position + 1 < end) continue;
        read_rows(batch, rows);
        const int start = position + 1 - static_cast<int>(rows.size());
        for (std::size_t i = 0; i < rows.size(); ++i) {
            const int at = start + static_cast<int>(i);
            transformer_->device().download(*logits_, i * row_.size(), row_);
            const bool is_finite = exact::amax_bits(row_) < exact::kInfinityBits;
            if (failed_[static_cast<std::size_t>(rows[i])] != 0 || !is_finite) return at;
            const std::int32_t next = prompt[static_cast<std::size_t>(at) + 1];
            told.tokens.push_back(next);
            told.logprobs.push_back(Sampler::logprobs(row_, next, *sequence.request->top_logprobs));
        }
        rows.clear();
    }
    return std::nullopt;
}

}  // namespace etalon::engine

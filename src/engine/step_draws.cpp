// SPDX-License-Identifier: Apache-2.0
// What the device is told of each row.
#include "engine/step_draws.h"

namespace etalon::engine {

StepDraws::StepDraws(std::span<const Share> shares, const StepBatch& batch, Sampler& sampler,
                     bool device_draws) {
    if (!device_draws || batch.rows().empty()) return;
    draws_.resize(batch.rows().size());
    tokens_.resize(draws_.size(), backend::kNoToken);
    masks_.resize(draws_.size());
    logprobs_.resize(draws_.size());
    drafted_.reserve(shares.size());  // spans into its elements stay
    for (std::size_t i = 0; i < shares.size(); ++i) {
        const Share& share = shares[i];
        const Sequence& sequence = *share.sequence;
        if (!share.completes() || sequence.request->embed) continue;
        const auto prompt = std::span<const std::int32_t>(sequence.request->prompt);
        auto answer = std::span<const std::int32_t>(sequence.tokens).subspan(prompt.size());
        const std::size_t n_answer = answer.size();
        if (!share.draft.empty()) {
            auto& drafted = drafted_.emplace_back(answer.begin(), answer.end());
            drafted.insert(drafted.end(), share.draft.begin(), share.draft.end());
            answer = drafted;
        }
        // A mask knows the tokens that it let through; drafts did not come through it.
        const std::size_t n_rows = sequence.request->mask ? 1 : share.draft.size() + 1;
        for (std::size_t k = 0; k < n_rows; ++k) {
            const std::size_t row = batch.first_row(i) + k;
            draws_[row] =
                sampler.draw_of(*sequence.request, sequence.choice, prompt,
                                answer.first(n_answer + k), masks_[row], share.row_before ? 1 : 0);
            if (!sequence.request->top_logprobs) continue;
            draws_[row].logprobs = &logprobs_[row];
            draws_[row].n_top = *sequence.request->top_logprobs;
        }
    }
}

bool StepDraws::all_are_drawn() const {
    for (std::size_t row = 0; row < draws_.size(); ++row) {
        if (!is_drawn(row)) return false;
    }
    return !draws_.empty();
}

}  // namespace etalon::engine

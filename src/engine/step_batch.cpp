// SPDX-License-Identifier: Apache-2.0
// Flattens shares.
#include "engine/step_batch.h"

#include "base/error.h"

namespace etalon::engine {

StepBatch::StepBatch(std::span<const Share> shares) {
    ETALON_ASSERT(!shares.empty());
    for (std::size_t i = 0; i < shares.size(); ++i)
        append(shares[i], static_cast<std::int32_t>(i));
    failed_.assign(tokens_.size(), 0);
}

void StepBatch::append(const Share& share, std::int32_t index) {
    const Sequence& sequence = *share.sequence;
    ETALON_ASSERT(share.n_tokens >= 1 && share.n_tokens <= sequence.n_missing());
    ETALON_ASSERT(share.draft.empty() || share.completes());
    ETALON_ASSERT(!share.row_before || (share.n_tokens == 1 && share.draft.empty()));
    first_token_.push_back(tokens_.size());
    first_row_.push_back(rows_.size());
    const int first = share.row_before ? sequence.n_tokens() : sequence.n_computed;
    const auto add = [&](std::int32_t token, bool wants_logits) {
        if (wants_logits) rows_.push_back(static_cast<std::int32_t>(tokens_.size()));
        const auto nth = static_cast<int>(tokens_.size() - first_token_.back());
        tokens_.push_back(token);
        positions_.push_back(first + nth);
        sequence_of_.push_back(index);
    };
    for (int k = 0; k < share.n_tokens; ++k) {
        const bool is_last =
            share.completes() && k + 1 == share.n_tokens && !sequence.request->embed;
        const int position = first + k;
        add(share.row_before ? backend::token_drawn_by(*share.row_before)
                             : sequence.tokens[static_cast<std::size_t>(position)],
            is_last);
    }
    for (const std::int32_t token : share.draft)
        add(token, true);
    ETALON_ASSERT(pages_for(positions_.back() + 1) <=
                  static_cast<int>(sequence.table.pages.size()));
    page_tables_.push_back(sequence.table.pages);
}

backend::Batch StepBatch::view() noexcept {
    return {tokens_, positions_, sequence_of_, page_tables_, failed_};
}

backend::Batch StepBatch::view(std::span<std::uint8_t> failed) const noexcept {
    return {tokens_, positions_, sequence_of_, page_tables_, failed};
}

bool StepBatch::failed(std::size_t i, int k) const {
    return failed_[first_token_[i] + static_cast<std::size_t>(k)] != 0;
}

}  // namespace etalon::engine

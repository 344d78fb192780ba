// SPDX-License-Identifier: Apache-2.0
// Lookup of repeated tokens, and how long a proposal is worth being.
#include "engine/speculation.h"

#include <algorithm>

#include "base/error.h"
#include "engine/limits.h"

namespace etalon::engine {

namespace {

/// Length of the common end of `context` and history[0, end), at most kNgramMax.
int common_end(std::span<const std::int32_t> context, std::span<const std::int32_t> history,
               std::size_t end) {
    const auto limit = std::min({static_cast<std::size_t>(kNgramMax), context.size(), end});
    std::size_t n = 0;
    while (n < limit && context[context.size() - 1 - n] == history[end - 1 - n])
        ++n;
    return static_cast<int>(n);
}

std::vector<std::int32_t> first_of(std::span<const std::int32_t> tokens, int n_max) {
    const auto n = std::min(tokens.size(), static_cast<std::size_t>(n_max));
    return {tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(n)};
}

}  // namespace

std::vector<std::int32_t> look_up(std::span<const std::int32_t> context,
                                  std::span<const std::int32_t> history, int n_max) {
    if (history.empty() || n_max <= 0) return {};
    int longest = kNgramMin - 1;
    std::size_t follows = history.size();
    // Something must follow, so the end of `history` itself is no place to look at.
    const std::size_t last = history.size() - 1;
    const std::size_t first = last > kLookupTokensMax ? last - kLookupTokensMax : 0;
    for (std::size_t end = last; end > first && longest < kNgramMax; --end) {
        const int n = common_end(context, history, end);
        if (n <= longest) continue;
        longest = n;
        follows = end;
    }
    return first_of(history.subspan(follows), n_max);
}

Drafter::Drafter(bool has_prediction)
    : length_(has_prediction ? kDraftMax : kDraftStart), next_pause_(kPauseMin) {}

std::vector<std::int32_t> Drafter::propose(std::span<const std::int32_t> tokens,
                                           std::size_t n_prompt,
                                           std::span<const std::int32_t> prediction,
                                           int n_max) const {
    ETALON_ASSERT(n_prompt <= tokens.size());
    const int n = std::min(n_max, length());
    if (n <= 0) return {};
    if (n_prompt == tokens.size()) return first_of(prediction, n);
    std::vector<std::int32_t> draft = look_up(tokens, prediction, n);
    if (draft.empty()) draft = look_up(tokens, tokens, n);
    return draft;
}

void Drafter::observe(int n_proposed, int n_accepted) {
    ETALON_ASSERT(n_accepted >= 0 && n_accepted <= n_proposed);
    if (n_proposed == 0) {
        pause_ = std::max(pause_ - 1, 0);
        return;
    }
    if (n_accepted == n_proposed) {
        length_ = std::min(2 * length_, kDraftMax);
        next_pause_ = kPauseMin;
    } else if (n_accepted > 0) {
        length_ = std::max(n_accepted, 1);
    } else if (length_ > 1) {
        length_ /= 2;
    } else {
        pause_ = next_pause_;
        next_pause_ = std::min(2 * next_pause_, kPauseMax);
    }
}

}  // namespace etalon::engine

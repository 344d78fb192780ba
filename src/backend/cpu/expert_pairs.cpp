// SPDX-License-Identifier: Apache-2.0
// Which experts the tokens of a batch use, grouped by expert (spec MOE-1, MOE-2, MOE-4).
#include "backend/cpu/expert_pairs.h"

#include <numeric>

#include "exact/moe.h"

namespace etalon::backend::cpu {

ExpertPairs pair_up(std::span<float> logits, int n_experts, int n_used,
                    std::span<std::uint8_t> failed) {
    const auto width = static_cast<std::size_t>(n_experts);
    const std::size_t n_pairs = failed.size() * static_cast<std::size_t>(n_used);
    std::vector<std::size_t> expert_of;
    ExpertPairs pairs;
    pairs.begin.assign(width + 1, 0);
    for (std::size_t t = 0; t < failed.size(); ++t) {
        const auto row = logits.subspan(t * width, width);
        if (!exact::settle_router_logits(row)) failed[t] = 1;  // MOE-4
        for (const exact::ExpertChoice& choice : exact::route(row, n_used)) {
            expert_of.push_back(static_cast<std::size_t>(choice.expert));
            pairs.weight_of.push_back(choice.weight);
            ++pairs.begin[expert_of.back() + 1];
        }
    }
    std::partial_sum(pairs.begin.begin(), pairs.begin.end(), pairs.begin.begin());
    std::vector<std::size_t> next(pairs.begin.begin(), pairs.begin.end() - 1);
    pairs.token_of.resize(n_pairs);
    for (std::size_t i = 0; i < n_pairs; ++i) {
        const std::size_t pair = next[expert_of[i]]++;
        pairs.pair_of.push_back(pair);
        pairs.token_of[pair] = static_cast<std::int32_t>(i / static_cast<std::size_t>(n_used));
    }
    return pairs;
}

}  // namespace etalon::backend::cpu

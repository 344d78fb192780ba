// SPDX-License-Identifier: Apache-2.0
// Which experts the tokens of a batch use, grouped by expert (spec MOE-1, MOE-2, MOE-4).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace etalon::backend::cpu {

/// A pair is a token with one of its experts. Pairs stand in the order of experts, those of one
/// expert in the order of tokens. Example, tokens 0 and 1 with the experts {0, 2} and {2, 3}: the
/// pairs are (0, 0), (0, 2), (1, 2), (1, 3), token_of is {0, 0, 1, 1}, begin {0, 1, 1, 3, 4}.
struct ExpertPairs {
    std::vector<std::int32_t> token_of;  ///< [n_pairs]
    std::vector<std::size_t> begin;      ///< [n_experts + 1]: the pairs of each expert
    std::vector<std::size_t> pair_of;    ///< [n_tokens, n_used]: of a token, experts ascending
    std::vector<float> weight_of;        ///< likewise

    std::span<const std::int32_t> tokens(std::size_t expert) const {
        return std::span(token_of).subspan(begin[expert], begin[expert + 1] - begin[expert]);
    }
};

/// From logits[n_tokens, n_experts], which MOE-4 may change; sets failed[t] there.
ExpertPairs pair_up(std::span<float> logits, int n_experts, int n_used,
                    std::span<std::uint8_t> failed);

}  // namespace etalon::backend::cpu

// SPDX-License-Identifier: Apache-2.0
// Prompt lookup: proposes the next tokens of an answer from what prompt, answer or a prediction
// said after the same few tokens. The sampler decides; a proposal changes speed and no bit.
//
// Example, tokens 5 6 7 8 9 5 6 7: the last three stood at the beginning, where 8 9 5 followed.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace etalon::engine {

/// What followed the longest end of `context` (kNgramMin to kNgramMax tokens) where it stood last
/// in `history`: at most `n_max` tokens, none when it stood nowhere. `history` may be `context`
/// itself.
std::vector<std::int32_t> look_up(std::span<const std::int32_t> context,
                                  std::span<const std::int32_t> history, int n_max);

/// Proposals of one sequence, as many as its acceptance so far is worth.
class Drafter {
  public:
    /// `has_prediction`: the caller expects the answer, so the first proposal is a long one.
    explicit Drafter(bool has_prediction);

    /// Tokens that may follow `tokens` (prompt and answer), at most `n_max`.
    std::vector<std::int32_t> propose(std::span<const std::int32_t> tokens, std::size_t n_prompt,
                                      std::span<const std::int32_t> prediction, int n_max) const;

    /// After each step of decoding: how many were proposed, maybe none, and how many accepted.
    void observe(int n_proposed, int n_accepted);

    int length() const noexcept { return pause_ > 0 ? 0 : length_; }  ///< of the next proposal

  private:
    int length_;
    int pause_ = 0;   // steps without a proposal that are left
    int next_pause_;  // after the next failure at length 1
};

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// Natural logarithms of the probabilities that a model gives its tokens (spec SMP-11, SMP-12).
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace etalon::exact {

/// What SMP-11 needs to know of a row, for devices that sum it themselves.
struct LogprobSum {
    float largest = 0.0F;   ///< logit
    std::uint64_t sum = 0;  ///< of P at temperature 1 (SMP-5)

    /// ln of the probability of a token with this logit.
    float of(float logit) const noexcept;
};

/// One row of logits, as the model gave them: before penalties, bias and temperature.
///   const Logprobs logprobs(logits);
///   float p = logprobs.of(token);
///   auto best = logprobs.top(5);
class Logprobs {
  public:
    /// `logits` (at least one, all finite) outlive the object.
    explicit Logprobs(std::span<const float> logits);

    /// ln of the probability of `id` (SMP-11): <= 0 but for rounding; -infinity where logits lie
    /// further apart than binary32 reaches.
    float of(std::int32_t id) const noexcept;

    /// The `n` largest (fewer in a smaller vocabulary): (id, of(id)), logit descending, id
    /// ascending (SMP-12).
    std::vector<std::pair<std::int32_t, float>> top(int n) const;

  private:
    std::span<const float> logits_;
    LogprobSum sum_;
};

}  // namespace etalon::exact

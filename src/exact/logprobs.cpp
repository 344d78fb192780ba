// SPDX-License-Identifier: Apache-2.0
// Logarithms of probabilities from an integer sum (spec SMP-11, SMP-12).
#include "exact/logprobs.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "exact/math.h"
#include "exact/quantize.h"
#include "exact/sampler.h"

namespace etalon::exact {

float LogprobSum::of(float logit) const noexcept {
    const float ln_sum = (log2(static_cast<float>(sum)) - 31.0F) * kLn2;
    return (logit - largest) - ln_sum;  // SMP-11
}

Logprobs::Logprobs(std::span<const float> logits) : logits_(logits) {
    ETALON_ASSERT(!logits.empty() && amax_bits(logits) < kInfinityBits);
    sum_.largest = *std::max_element(logits.begin(), logits.end());
    for (const float l : logits)
        sum_.sum += probability_units(l, sum_.largest, 1.0F);
}

float Logprobs::of(std::int32_t id) const noexcept {
    return sum_.of(logits_[static_cast<std::size_t>(id)]);
}

std::vector<std::pair<std::int32_t, float>> Logprobs::top(int n) const {  // SMP-12
    ETALON_ASSERT(n >= 0);
    std::vector<std::int32_t> ids(logits_.size());
    std::iota(ids.begin(), ids.end(), 0);
    const std::size_t kept = std::min(ids.size(), static_cast<std::size_t>(n));
    std::partial_sort(ids.begin(), ids.begin() + static_cast<std::ptrdiff_t>(kept), ids.end(),
                      [&](std::int32_t a, std::int32_t b) {
                          const float la = logits_[static_cast<std::size_t>(a)];
                          const float lb = logits_[static_cast<std::size_t>(b)];
                          return la != lb ? la > lb : a < b;
                      });
    std::vector<std::pair<std::int32_t, float>> best;
    for (std::size_t i = 0; i < kept; ++i)
        best.emplace_back(ids[i], of(ids[i]));
    return best;
}

}  // namespace etalon::exact

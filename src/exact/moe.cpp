// SPDX-License-Identifier: Apache-2.0
// Routing of a mixture of experts (spec MOE-1 to MOE-4).
#include "exact/moe.h"

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "exact/math.h"
#include "exact/quantize.h"

namespace etalon::exact {

bool settle_router_logits(std::span<float> logits) noexcept {  // MOE-4
    if (amax_bits(logits) < kInfinityBits) return true;
    std::fill(logits.begin(), logits.end(), 0.0F);
    return false;
}

std::vector<ExpertChoice> route(std::span<const float> logits, int n_used) {
    ETALON_ASSERT(n_used >= 1 && static_cast<std::size_t>(n_used) <= logits.size());
    std::vector<int> order(logits.size());
    std::iota(order.begin(), order.end(), 0);
    const auto logit = [&](int e) { return logits[static_cast<std::size_t>(e)]; };
    std::sort(order.begin(), order.end(), [&](int a, int b) {  // MOE-1
        return logit(a) != logit(b) ? logit(a) > logit(b) : a < b;
    });
    const float largest = logit(order[0]);
    order.resize(static_cast<std::size_t>(n_used));
    std::sort(order.begin(), order.end());
    std::vector<ExpertChoice> chosen;
    float sum = 0.0F;
    for (const int e : order) {  // MOE-2
        const float x = (logit(e) - largest) * kLog2E;
        const float weight = exp2(x > -126.0F ? x : -126.0F);
        sum += weight;
        chosen.push_back({e, weight});
    }
    for (ExpertChoice& choice : chosen)
        choice.weight /= sum;
    return chosen;
}

void accumulate_expert(float weight, std::span<const float> y, std::span<float> acc) noexcept {
    ETALON_ASSERT(y.size() == acc.size());
    for (std::size_t i = 0; i < y.size(); ++i)
        acc[i] = fma(weight, y[i], acc[i]);  // MOE-3
}

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Routing of a mixture of experts (spec MOE-1 to MOE-4).
#pragma once

#include <span>
#include <vector>

namespace etalon::exact {

struct ExpertChoice {
    int expert = 0;
    float weight = 0.0F;
};

/// False when a logit is not finite: the token has failed (ERR-1), and all of them are +0 (MOE-4).
bool settle_router_logits(std::span<float> logits) noexcept;

/// The n_used experts of the largest logits, ties to the lower index, in ascending order of index,
/// weighted by a softmax over the chosen (MOE-1, MOE-2). 1 <= n_used <= logits.size(); logits
/// finite.
std::vector<ExpertChoice> route(std::span<const float> logits, int n_used);

/// acc[i] = fma(weight, y[i], acc[i]); experts in index order from +0 (MOE-3).
void accumulate_expert(float weight, std::span<const float> y, std::span<float> acc) noexcept;

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Mean pooling in the order of the tokens (spec VEC-1 to VEC-3).
#include "exact/pool.h"

#include <cmath>

#include "base/error.h"
#include "exact/norm.h"
#include "exact/quantize.h"

namespace etalon::exact {

bool hidden_state(std::span<const float> h, std::span<const float> w, float eps,
                  std::span<float> e) noexcept {
    norm_weigh(h, w, e);  // NRM-2
    const float scale = norm_scale(h, eps);
    for (float& value : e)
        value *= scale;  // VEC-1
    return norm_scale_is_valid(scale);
}

void MeanPool::add(std::span<const float> e) noexcept {
    ETALON_ASSERT(e.size() == sum_.size());
    for (std::size_t i = 0; i < e.size(); ++i)
        sum_[i] += e[i];  // VEC-2
    ++n_tokens_;
}

std::optional<std::vector<float>> MeanPool::finish(bool normalize) const {
    ETALON_ASSERT(n_tokens_ >= 1);
    std::vector<float> vector = sum_;
    for (float& value : vector)
        value /= static_cast<float>(n_tokens_);  // VEC-2
    if (amax_bits(vector) >= kInfinityBits) return std::nullopt;
    if (!normalize) return vector;
    const float length = std::sqrt(dot_lanes(vector, vector));  // VEC-3
    if (!norm_scale_is_valid(length)) return std::nullopt;
    for (float& value : vector)
        value /= length;
    return vector;
}

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Rows of logits on the host as src/exact has them, for backends that do it no faster.
#include <algorithm>

#include "backend/operations.h"
#include "base/error.h"
#include "exact/quantize.h"
#include "exact/sampler.h"

namespace etalon::backend {

std::uint32_t Backend::amax_bits(std::span<const float> row) const {
    return exact::amax_bits(row);
}

float Backend::largest(std::span<const float> row) const {
    ETALON_ASSERT(!row.empty());
    return *std::max_element(row.begin(), row.end());
}

void Backend::probability_units(std::span<const float> logits, float largest,
                                float inverse_temperature, std::span<std::uint32_t> p) const {
    ETALON_ASSERT(p.size() == logits.size());
    for (std::size_t i = 0; i < logits.size(); ++i) {  // SMP-5
        p[i] = static_cast<std::uint32_t>(
            exact::probability_units(logits[i], largest, inverse_temperature));
    }
}

}  // namespace etalon::backend

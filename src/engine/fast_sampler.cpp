// SPDX-License-Identifier: Apache-2.0
// Filters by selection instead of sorting. Sets and integer sums do not depend on an order, so the
// result is that of exact::sample; tests/engine compares them.
#include "engine/fast_sampler.h"

#include <algorithm>

#include "base/error.h"
#include "exact/math.h"
#include "exact/quantize.h"

namespace etalon::engine {

namespace {

__extension__ using u128 = unsigned __int128;

/// Below it exp2(x) * 2^31 is at most 1/4 and P is 0, so exp2 need not be computed (SMP-5).
constexpr float kExponentMin = -33.0F;

/// A share in [0, 1] in units of 2^-32 (SMP-7, SMP-8); the product is exact in binary64.
std::uint64_t share_units(float share) {
    return static_cast<std::uint64_t>(static_cast<double>(share) * 0x1p32 + 0.5);
}

}  // namespace

/// The order of SMP-6, reversed: heaps give their largest element first.
bool FastSampler::comes_later(const Candidate& a, const Candidate& b) noexcept {
    if (a.p != b.p) return a.p < b.p;
    return a.logit != b.logit ? a.logit < b.logit : a.id > b.id;
}

void FastSampler::collect(const exact::SamplingParameters& parameters,
                          std::span<const bool> allowed, float largest,
                          std::span<const float> logits) {
    const float inverse_temperature = 1.0F / parameters.temperature;
    candidates_.clear();
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (!allowed.empty() && !allowed[i]) continue;
        const float x = ((logits[i] - largest) * inverse_temperature) * exact::kLog2E;
        if (x < kExponentMin) continue;
        const auto p = exact::probability_units(logits[i], largest, inverse_temperature);
        if (p > 0) candidates_.push_back({static_cast<std::int32_t>(i), logits[i], p});
    }
    ETALON_ASSERT(!candidates_.empty());  // the largest has P = 2^31
}

/// Leaves what SMP-6 to SMP-8 keep, by ascending id.
void FastSampler::filter(const exact::SamplingParameters& parameters) {
    const auto earlier = [](const Candidate& a, const Candidate& b) { return comes_later(b, a); };
    const auto top_k = static_cast<std::size_t>(parameters.top_k);
    if (top_k > 0 && top_k < candidates_.size()) {  // SMP-6
        std::nth_element(candidates_.begin(),
                         candidates_.begin() + static_cast<std::ptrdiff_t>(top_k),
                         candidates_.end(), earlier);
        candidates_.resize(top_k);
    }
    if (parameters.top_p < 1.0F) {  // SMP-7
        u128 total = 0;
        for (const Candidate& c : candidates_)
            total += c.p;
        const u128 wanted = total * share_units(parameters.top_p);
        std::make_heap(candidates_.begin(), candidates_.end(), comes_later);
        u128 sum = 0;
        auto kept = candidates_.end();  // the heap ends here, what is kept begins
        while (kept != candidates_.begin() && (kept == candidates_.end() || (sum << 32) < wanted)) {
            std::pop_heap(candidates_.begin(), kept, comes_later);
            sum += (--kept)->p;
        }
        candidates_.erase(candidates_.begin(), kept);
    }
    if (parameters.min_p > 0.0F) {  // SMP-8
        const auto first = std::max_element(candidates_.begin(), candidates_.end(), comes_later);
        const u128 bound = u128{first->p} * share_units(parameters.min_p);
        std::erase_if(candidates_, [&](const Candidate& c) { return (u128{c.p} << 32) < bound; });
    }
    const auto by_id = [](const Candidate& a, const Candidate& b) { return a.id < b.id; };
    if (!std::is_sorted(candidates_.begin(), candidates_.end(), by_id)) {
        std::sort(candidates_.begin(), candidates_.end(), by_id);
    }
}

std::int32_t FastSampler::draw(std::uint64_t bits) const {  // SMP-10
    u128 sum = 0;
    for (const Candidate& c : candidates_)
        sum += c.p;
    const u128 target = (u128{bits} * sum) >> 64;
    u128 cumulative = 0;
    for (const Candidate& c : candidates_) {
        cumulative += c.p;
        if (target < cumulative) return c.id;
    }
    ETALON_ASSERT(false && "the target lies below the sum");
}

std::optional<std::int32_t> FastSampler::sample(const exact::SamplingParameters& parameters,
                                                std::span<const std::int32_t> prompt,
                                                std::span<const std::int32_t> answer,
                                                std::span<const bool> allowed,
                                                std::uint64_t position, std::uint32_t choice,
                                                std::span<float> logits) {
    ETALON_ASSERT(allowed.empty() || allowed.size() == logits.size());
    if (exact::amax_bits(logits) >= exact::kInfinityBits) return std::nullopt;  // ERR-3
    exact::apply_penalties(parameters, prompt, answer, logits);
    if (exact::amax_bits(logits) >= exact::kInfinityBits) return std::nullopt;
    std::int32_t best = -1;
    for (std::size_t i = 0; i < logits.size(); ++i) {  // SMP-4
        if (!allowed.empty() && !allowed[i]) continue;
        if (best < 0 || logits[i] > logits[static_cast<std::size_t>(best)]) {
            best = static_cast<std::int32_t>(i);
        }
    }
    if (best < 0) return std::nullopt;
    if (parameters.temperature < exact::kTemperatureMin) return best;
    collect(parameters, allowed, logits[static_cast<std::size_t>(best)], logits);
    filter(parameters);
    return draw(exact::draw_bits(parameters.seed, position, choice));
}

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// From logits to the next token (spec SMP-1 to SMP-10).
#include "exact/sampler.h"

#include <algorithm>
#include <map>
#include <set>

#include "base/error.h"
#include "exact/math.h"
#include "exact/quantize.h"

namespace etalon::exact {

namespace {

__extension__ using u128 = unsigned __int128;

struct Candidate {
    std::int32_t id;
    float logit;
    std::uint64_t p;  // in units of 2^-31 of the largest (SMP-5)
};

u128 total(const std::vector<Candidate>& candidates) {
    u128 sum = 0;
    for (const Candidate& c : candidates)
        sum += c.p;
    return sum;
}

/// SMP-6 to SMP-8, on candidates in the order (P, logit, lower id).
void filter(const SamplingParameters& parameters, std::vector<Candidate>& candidates) {
    if (parameters.top_k > 0 && static_cast<std::size_t>(parameters.top_k) < candidates.size()) {
        candidates.resize(static_cast<std::size_t>(parameters.top_k));  // SMP-6
    }
    if (parameters.top_p < 1.0F) {  // SMP-7
        const u128 wanted = total(candidates) * share_units(parameters.top_p);
        u128 sum = 0;
        std::size_t n = 0;
        while (n < candidates.size() && (n == 0 || (sum << 32) < wanted))
            sum += candidates[n++].p;
        candidates.resize(n);
    }
    if (parameters.min_p > 0.0F) {  // SMP-8
        const u128 bound = u128{candidates[0].p} * share_units(parameters.min_p);
        const auto below = [&](const Candidate& c) { return (u128{c.p} << 32) < bound; };
        candidates.erase(std::find_if(candidates.begin(), candidates.end(), below),
                         candidates.end());
    }
}

}  // namespace

std::uint64_t probability_units(float logit, float largest, float inverse_temperature) noexcept {
    const float x = ((logit - largest) * inverse_temperature) * kLog2E;
    if (!(x >= -126.0F)) return 0;
    const float scaled = exp2(x) * 0x1p31F;
    // From 2^22 on a binary32 above 2^23 is an integer already, and rne holds up to 2^22.
    if (scaled < 0x1p22F) return static_cast<std::uint64_t>(rne(scaled));
    const auto whole = static_cast<std::uint64_t>(scaled);
    const float rest = scaled - static_cast<float>(whole);  // 0 or 1/2
    return rest > 0.0F && (whole & 1) != 0 ? whole + 1 : whole;
}

std::uint64_t share_units(float share) noexcept {
    const double scaled = static_cast<double>(share) * 0x1p32;  // exact
    return static_cast<std::uint64_t>(scaled + 0.5);
}

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) noexcept {  // SMP-9
    for (int round = 0; round < 10; ++round) {
        const std::uint64_t product0 = std::uint64_t{0xD2511F53U} * counter[0];
        const std::uint64_t product1 = std::uint64_t{0xCD9E8D57U} * counter[2];
        counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
                   static_cast<std::uint32_t>(product1),
                   static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
                   static_cast<std::uint32_t>(product0)};
        key[0] += 0x9E3779B9U;
        key[1] += 0xBB67AE85U;
    }
    return counter;
}

std::uint64_t draw_bits(std::uint64_t seed, std::uint64_t position, std::uint32_t choice) noexcept {
    const auto low = [](std::uint64_t v) { return static_cast<std::uint32_t>(v); };
    const auto high = [](std::uint64_t v) { return static_cast<std::uint32_t>(v >> 32); };
    const auto out = philox({low(position), high(position), choice, 0}, {low(seed), high(seed)});
    return (std::uint64_t{out[1]} << 32) | out[0];
}

void apply_penalties(const SamplingParameters& parameters, std::span<const std::int32_t> prompt,
                     std::span<const std::int32_t> answer, std::span<float> logits) {
    if (parameters.repetition_penalty != 1.0F) {  // SMP-1
        std::set<std::int32_t> seen(prompt.begin(), prompt.end());
        seen.insert(answer.begin(), answer.end());
        for (const std::int32_t id : seen) {
            float& l = logits[static_cast<std::size_t>(id)];
            l = l > 0.0F ? l / parameters.repetition_penalty : l * parameters.repetition_penalty;
        }
    }
    if (parameters.frequency_penalty != 0.0F || parameters.presence_penalty != 0.0F) {  // SMP-2
        std::map<std::int32_t, int> counts;
        for (const std::int32_t id : answer)
            ++counts[id];
        for (const auto& [id, count] : counts) {
            float& l = logits[static_cast<std::size_t>(id)];
            l = (l - parameters.frequency_penalty * static_cast<float>(count)) -
                parameters.presence_penalty;
        }
    }
    for (const auto& [id, bias] : parameters.logit_bias) {  // SMP-3
        logits[static_cast<std::size_t>(id)] += bias;
    }
}

std::optional<std::int32_t> sample(const SamplingParameters& parameters,
                                   std::span<const std::int32_t> prompt,
                                   std::span<const std::int32_t> answer,
                                   std::span<const bool> allowed, std::uint64_t position,
                                   std::uint32_t choice, std::span<float> logits) {
    ETALON_ASSERT(allowed.empty() || allowed.size() == logits.size());
    if (amax_bits(logits) >= kInfinityBits) return std::nullopt;  // ERR-3
    apply_penalties(parameters, prompt, answer, logits);
    if (amax_bits(logits) >= kInfinityBits) return std::nullopt;
    std::int32_t best = -1;
    for (std::size_t i = 0; i < logits.size(); ++i) {  // SMP-4
        if (!allowed.empty() && !allowed[i]) continue;
        if (best < 0 || logits[i] > logits[static_cast<std::size_t>(best)]) {
            best = static_cast<std::int32_t>(i);
        }
    }
    if (best < 0) return std::nullopt;
    if (parameters.temperature < kTemperatureMin) return best;
    const float largest = logits[static_cast<std::size_t>(best)];
    const float inverse_temperature = 1.0F / parameters.temperature;
    std::vector<Candidate> candidates;
    for (std::size_t i = 0; i < logits.size(); ++i) {
        if (!allowed.empty() && !allowed[i]) continue;
        const std::uint64_t p = probability_units(logits[i], largest, inverse_temperature);
        if (p > 0) candidates.push_back({static_cast<std::int32_t>(i), logits[i], p});
    }
    std::sort(candidates.begin(), candidates.end(), [](const Candidate& a, const Candidate& b) {
        if (a.p != b.p) return a.p > b.p;
        return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    });
    filter(parameters, candidates);
    std::sort(candidates.begin(), candidates.end(),
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    const u128 sum = total(candidates);
    const u128 target = (u128{draw_bits(parameters.seed, position, choice)} * sum) >> 64;  // SMP-10
    u128 cumulative = 0;
    for (const Candidate& c : candidates) {
        cumulative += c.p;
        if (target < cumulative) return c.id;
    }
    ETALON_ASSERT(false && "the target lies below the sum");
}

}  // namespace etalon::exact

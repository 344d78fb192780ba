// SPDX-License-Identifier: Apache-2.0
// Filters by selection instead of sorting. Sets and integer sums do not depend on an order, so the
// result is that of exact::sample; tests/engine compares them.
#include "engine/fast_sampler.h"

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "exact/quantize.h"

namespace etalon::engine {

namespace {

__extension__ using u128 = unsigned __int128;

/// P of the largest logit (SMP-5).
constexpr std::uint32_t kLargestP = std::uint32_t{1} << 31;
/// Bits from one bound on P to the next lower one that is tried: few passes, few candidates.
constexpr int kBoundStep = 4;
static_assert((31 - 3) % kBoundStep == 0, "the last bound is 1");
/// Tokens whose P are added at once while the drawn one is looked for.
constexpr std::size_t kBlock = 256;
/// Tokens that are passed over at once where none reaches the bound.
constexpr std::size_t kFew = 16;

/// Below 2^31 tokens of at most 2^31, so below 2^62.
std::uint64_t sum_of(std::span<const std::uint32_t> p) {
    std::uint64_t sum = 0;
    for (const std::uint32_t one : p)
        sum += one;
    return sum;
}

std::uint64_t sum_from(std::span<const std::uint32_t> p, std::uint32_t least) {
    std::uint64_t sum = 0;
    for (const std::uint32_t one : p)
        sum += one >= least ? one : 0;
    return sum;
}

std::uint64_t count_from(std::span<const std::uint32_t> p, std::uint32_t least) {
    std::uint32_t count = 0;
    for (const std::uint32_t one : p)
        count += one >= least ? 1 : 0;
    return count;
}

bool has_penalties(const exact::SamplingParameters& parameters) {
    return parameters.repetition_penalty != 1.0F || parameters.frequency_penalty != 0.0F ||
           parameters.presence_penalty != 0.0F || !parameters.logit_bias.empty();
}

bool has_filters(const exact::SamplingParameters& parameters) {
    return parameters.top_k > 0 || parameters.top_p < 1.0F || parameters.min_p > 0.0F;
}

}  // namespace

/// The order of SMP-6.
bool FastSampler::comes_earlier(const Candidate& a, const Candidate& b) noexcept {
    if (a.p != b.p) return a.p > b.p;
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

/// As exact::apply_penalties, with counts by id in place of ordered sets. Each logit is changed by
/// its own token alone, so the order of tokens does not matter.
void FastSampler::apply_penalties(const exact::SamplingParameters& parameters,
                                  std::span<const std::int32_t> prompt,
                                  std::span<const std::int32_t> answer, std::span<float> logits) {
    counts_.resize(logits.size(), 0);
    const auto count = [&](std::span<const std::int32_t> tokens) {
        for (const std::int32_t id : tokens)
            ++counts_[static_cast<std::size_t>(id)];
    };
    const auto change_each = [&](std::span<const std::int32_t> tokens, const auto& change) {
        for (const std::int32_t id : tokens) {
            const auto i = static_cast<std::size_t>(id);
            if (counts_[i] > 0) logits[i] = change(logits[i], counts_[i]);
            counts_[i] = 0;
        }
    };
    if (parameters.repetition_penalty != 1.0F) {  // SMP-1
        const float penalty = parameters.repetition_penalty;
        const auto change = [penalty](float l, std::uint32_t) {
            return l > 0.0F ? l / penalty : l * penalty;
        };
        count(prompt);
        count(answer);
        change_each(prompt, change);
        change_each(answer, change);  // those that are in both have their change
    }
    if (parameters.frequency_penalty != 0.0F || parameters.presence_penalty != 0.0F) {  // SMP-2
        count(answer);
        change_each(answer, [&](float l, std::uint32_t n) {
            return (l - parameters.frequency_penalty * static_cast<float>(n)) -
                   parameters.presence_penalty;
        });
    }
    for (const auto& [id, bias] : parameters.logit_bias)  // SMP-3
        logits[static_cast<std::size_t>(id)] += bias;
}

/// The largest logit that is allowed, lowest id; -1: none is (SMP-4). What is not allowed becomes
/// -infinity, of which P is 0.
std::int32_t FastSampler::best_of(std::span<const bool> allowed, std::span<float> logits) const {
    for (std::size_t i = 0; i < allowed.size(); ++i) {
        if (!allowed[i]) logits[i] = -std::numeric_limits<float>::infinity();
    }
    const float largest = device_->largest(logits);
    if (largest == -std::numeric_limits<float>::infinity()) return -1;
    const auto place = std::find(logits.begin(), logits.end(), largest);
    return static_cast<std::int32_t>(place - logits.begin());
}

/// A bound on P below which no token passes the filters: tokens are taken by descending P, so a
/// bound that enough of them reach is low enough.
std::uint32_t FastSampler::least_needed(const exact::SamplingParameters& parameters,
                                        std::uint64_t total) const {
    const u128 wanted = u128{total} * exact::share_units(parameters.top_p);
    const auto is_enough = [&](std::uint32_t least) {
        if (parameters.top_k > 0) {  // SMP-6
            return count_from(p_, least) >= static_cast<std::uint64_t>(parameters.top_k);
        }
        return (u128{sum_from(p_, least)} << 32) >= wanted;  // SMP-7
    };
    // SMP-8: P * 2^32 >= 2^31 * share.
    const std::uint64_t share = exact::share_units(parameters.min_p);
    const auto by_min_p = static_cast<std::uint32_t>((share + 1) / 2);
    if (parameters.top_k == 0 && parameters.top_p == 1.0F) return std::max(by_min_p, 1U);
    std::uint32_t least = kLargestP >> 3;
    while (least > 1 && !is_enough(least))
        least >>= kBoundStep;
    // Half way up again: twice the bound is half the candidates, or fewer.
    for (int i = 1; i < kBoundStep && is_enough(2 * least); ++i)
        least *= 2;
    return least;
}

void FastSampler::collect(std::uint32_t least, std::span<const float> logits) {
    candidates_.clear();
    const std::span<const std::uint32_t> all(p_);
    for (std::size_t begin = 0; begin < all.size(); begin += kFew) {
        const auto few = all.subspan(begin, std::min(kFew, all.size() - begin));
        if (count_from(few, least) == 0) continue;  // most of them
        for (std::size_t i = begin; i < begin + few.size(); ++i) {
            if (p_[i] < least) continue;
            candidates_.push_back({static_cast<std::int32_t>(i), logits[i], p_[i]});
        }
    }
    ETALON_ASSERT(!candidates_.empty());  // the largest has P = 2^31
}

/// The last token of the smallest prefix in the order of SMP-6 that has `n` tokens (SMP-6).
FastSampler::Candidate FastSampler::last_of_count(std::size_t n) {
    ordered_ = candidates_;
    const auto last = ordered_.begin() + static_cast<std::ptrdiff_t>(n) - 1;
    std::nth_element(ordered_.begin(), last, ordered_.end(), comes_earlier);
    return *last;
}

/// The last token of the smallest prefix, at least one token, that reaches the share of the sum of
/// all candidates or of `total`, which they reach (SMP-7). Halves the rest and sums one half.
FastSampler::Candidate FastSampler::last_of_share(std::uint64_t share, std::uint64_t total) {
    const u128 wanted = u128{total} * share;
    ordered_ = candidates_;
    auto begin = ordered_.begin();  // what stands before is in the prefix and does not reach it
    auto end = ordered_.end();      // what stands before reaches it
    std::uint64_t before = 0;
    while (end - begin > 1) {
        const auto middle = begin + (end - begin) / 2;
        std::nth_element(begin, middle, end, comes_earlier);
        std::uint64_t sum = 0;
        for (auto it = begin; it != middle; ++it)
            sum += it->p;
        if ((u128{before + sum} << 32) >= wanted) {
            end = middle;
        } else {
            before += sum;
            begin = middle;
        }
    }
    return *begin;
}

/// Leaves what SMP-6 to SMP-8 keep; the order stays. `total` is of all tokens.
void FastSampler::filter(const exact::SamplingParameters& parameters, std::uint64_t total) {
    const auto keep_to = [this](const Candidate& last) {
        std::erase_if(candidates_, [&](const Candidate& c) { return comes_earlier(last, c); });
    };
    const auto top_k = static_cast<std::size_t>(parameters.top_k);
    if (top_k > 0) {  // SMP-6
        if (top_k < candidates_.size()) keep_to(last_of_count(top_k));
        total = 0;
        for (const Candidate& c : candidates_)
            total += c.p;
    }
    if (parameters.top_p < 1.0F) {  // SMP-7
        keep_to(last_of_share(exact::share_units(parameters.top_p), total));
    }
    if (parameters.min_p > 0.0F) {  // SMP-8
        const auto first = std::min_element(candidates_.begin(), candidates_.end(), comes_earlier);
        const u128 bound = u128{first->p} * exact::share_units(parameters.min_p);
        std::erase_if(candidates_, [&](const Candidate& c) { return (u128{c.p} << 32) < bound; });
    }
}

/// SMP-10 without filters. Tokens of P = 0 add nothing, so that none of them is drawn.
std::int32_t FastSampler::draw_from_all(std::uint64_t bits, std::uint64_t total) const {
    const auto target = static_cast<std::uint64_t>((u128{bits} * total) >> 64);
    std::uint64_t before = 0;
    const std::span<const std::uint32_t> all(p_);
    for (std::size_t begin = 0; begin < all.size(); begin += kBlock) {
        const auto block = all.subspan(begin, std::min(kBlock, all.size() - begin));
        const std::uint64_t sum = sum_of(block);
        if (target >= before + sum) {
            before += sum;
            continue;
        }
        for (std::size_t i = 0; i < block.size(); ++i) {
            before += block[i];
            if (target < before) return static_cast<std::int32_t>(begin + i);
        }
    }
    ETALON_ASSERT(false && "the target lies below the sum");
}

std::int32_t FastSampler::draw_from_candidates(std::uint64_t bits) const {  // SMP-10
    std::uint64_t sum = 0;
    for (const Candidate& c : candidates_)
        sum += c.p;
    const auto target = static_cast<std::uint64_t>((u128{bits} * sum) >> 64);
    std::uint64_t cumulative = 0;
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
    if (device_->amax_bits(logits) >= exact::kInfinityBits) return std::nullopt;  // ERR-3
    if (has_penalties(parameters)) {
        apply_penalties(parameters, prompt, answer, logits);
        if (device_->amax_bits(logits) >= exact::kInfinityBits) return std::nullopt;
    }
    const std::int32_t best = best_of(allowed, logits);
    if (best < 0) return std::nullopt;
    if (parameters.temperature < exact::kTemperatureMin) return best;
    p_.resize(logits.size());
    device_->probability_units(logits, logits[static_cast<std::size_t>(best)],
                               1.0F / parameters.temperature, p_);
    const std::uint64_t total = sum_of(p_);
    const std::uint64_t bits = exact::draw_bits(parameters.seed, position, choice);
    if (!has_filters(parameters)) return draw_from_all(bits, total);
    collect(least_needed(parameters, total), logits);
    filter(parameters, total);
    return draw_from_candidates(bits);
}

}  // namespace etalon::engine

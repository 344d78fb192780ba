// SPDX-License-Identifier: Apache-2.0
// exact::sample with the same result and less work: rows by the backend's kernels, no sort of the
// vocabulary, and only as much of it looked at as the filters need (SMP-1 to SMP-10).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/operations.h"
#include "exact/sampler.h"

namespace etalon::engine {

class FastSampler {
  public:
    /// The backend outlives the object; only its functions for rows on the host are called.
    explicit FastSampler(const backend::Backend& device) : device_(&device) {}

    /// Arguments and result are those of exact::sample.
    std::optional<std::int32_t> sample(const exact::SamplingParameters& parameters,
                                       std::span<const std::int32_t> prompt,
                                       std::span<const std::int32_t> answer,
                                       std::span<const bool> allowed, std::uint64_t position,
                                       std::uint32_t choice, std::span<float> logits);

  private:
    struct Candidate {
        std::int32_t id;
        float logit;
        std::uint32_t p;  // in units of 2^-31 of the largest (SMP-5)
    };
    static bool comes_earlier(const Candidate& a, const Candidate& b) noexcept;

    void apply_penalties(const exact::SamplingParameters& parameters,
                         std::span<const std::int32_t> prompt, std::span<const std::int32_t> answer,
                         std::span<float> logits);
    std::int32_t best_of(std::span<const bool> allowed, std::span<float> logits) const;
    std::uint32_t least_needed(const exact::SamplingParameters& parameters,
                               std::uint64_t total) const;
    void collect(std::uint32_t least, std::span<const float> logits);
    Candidate last_of_count(std::size_t n);
    Candidate last_of_share(std::uint64_t share, std::uint64_t total);
    void filter(const exact::SamplingParameters& parameters, std::uint64_t total);
    std::int32_t draw_from_all(std::uint64_t bits, std::uint64_t total) const;
    std::int32_t draw_from_candidates(std::uint64_t bits) const;

    const backend::Backend* device_;
    // Reused: a vocabulary is some megabytes.
    std::vector<std::uint32_t> p_;       // [vocab_size]
    std::vector<std::uint32_t> counts_;  // [vocab_size] of tokens so far; 0 between calls
    std::vector<Candidate> candidates_;  // by ascending id
    std::vector<Candidate> ordered_;     // a copy of them, partly in the order of SMP-6
};

}  // namespace etalon::engine

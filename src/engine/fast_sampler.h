// SPDX-License-Identifier: Apache-2.0
// exact::sample with the same result and less work: no sort of the vocabulary where no filter needs
// the order, and else only as much of it as the filters look at (SMP-4 to SMP-10).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "exact/sampler.h"

namespace etalon::engine {

class FastSampler {
  public:
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
        std::uint64_t p;  // in units of 2^-31 of the largest (SMP-5)
    };
    static bool comes_later(const Candidate& a, const Candidate& b) noexcept;

    void collect(const exact::SamplingParameters& parameters, std::span<const bool> allowed,
                 float largest, std::span<const float> logits);
    void filter(const exact::SamplingParameters& parameters);
    std::int32_t draw(std::uint64_t bits) const;

    std::vector<Candidate> candidates_;  // reused: a vocabulary is some megabytes
};

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// From logits to the next token, in integers from the probabilities on (spec SMP-1 to SMP-10).
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace etalon::exact {

/// Ranges are checked where the values come in; here they are asserted.
struct SamplingParameters {
    float temperature = 0.0F;  ///< [0, 100]; below kTemperatureMin the largest logit is taken
    int top_k = 0;             ///< 0: all
    float top_p = 1.0F;        ///< (0, 1]; 1: all
    float min_p = 0.0F;        ///< [0, 1]; 0: all
    float repetition_penalty = 1.0F;  ///< (0, 100]; tokens of prompt and answer
    float presence_penalty = 0.0F;    ///< [-100, 100]; tokens of the answer
    float frequency_penalty = 0.0F;   ///< [-100, 100]; tokens of the answer
    std::vector<std::pair<std::int32_t, float>> logit_bias;  ///< distinct ids
    std::uint64_t seed = 0;
};
inline constexpr float kTemperatureMin = 1e-3F;

/// P = rne(exp2((l - l_max) / T * log2 e) * 2^31), 0 where the exponent is below -126 (SMP-5).
std::uint64_t probability_units(float logit, float largest, float inverse_temperature) noexcept;

/// A share in [0, 1] in units of 2^-32, rounded to the nearest (SMP-7, SMP-8).
std::uint64_t share_units(float share) noexcept;

/// Philox4x32-10 (SMP-9).
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                    std::array<std::uint32_t, 2> key) noexcept;

/// 64 random bits for a token: key = seed, counter = (absolute position of the token that is drawn,
/// choice) (SMP-9).
std::uint64_t draw_bits(std::uint64_t seed, std::uint64_t position, std::uint32_t choice) noexcept;

/// Changes `logits` in place: penalties and bias (SMP-1 to SMP-3). `prompt` and `answer` are the
/// tokens so far.
void apply_penalties(const SamplingParameters& parameters, std::span<const std::int32_t> prompt,
                     std::span<const std::int32_t> answer, std::span<float> logits);

/// The next token: apply_penalties, then temperature, top-k, top-p, min-p and the draw (SMP-4 to
/// SMP-10). `allowed`, when not empty, holds one flag a token (the mask). nullopt when a logit is
/// not finite or no token is allowed (ERR-3).
std::optional<std::int32_t> sample(const SamplingParameters& parameters,
                                   std::span<const std::int32_t> prompt,
                                   std::span<const std::int32_t> answer,
                                   std::span<const bool> allowed, std::uint64_t position,
                                   std::uint32_t choice, std::span<float> logits);

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Rotary position embedding (spec RPE-1 to RPE-7): frequencies as 64-bit turns, plain, Llama-3 and
// YaRN scaling, pairs interleaved or in halves.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace etalon::exact {

enum class RopePairing : std::uint8_t {
    interleaved,  ///< pairs (2j, 2j+1): GGUF files of the llama architecture, consolidated files
    halves,       ///< pairs (j, j + n/2): Hugging Face files
};

enum class RopeScaling : std::uint8_t { none, linear, llama3, yarn };

struct RopeConfig {
    RopePairing pairing = RopePairing::interleaved;
    int n_dims = 0;         ///< rotated dimensions of a head, even, <= head_dim
    float base = 10000.0F;  ///< theta, in [1, 1e12]
    RopeScaling scaling = RopeScaling::none;
    float factor = 1.0F;                   ///< linear, llama3, yarn: >= 1
    float low_freq_factor = 1.0F;          ///< llama3
    float high_freq_factor = 4.0F;         ///< llama3
    float beta_fast = 32.0F;               ///< yarn
    float beta_slow = 1.0F;                ///< yarn
    float attention_factor = 0.0F;         ///< yarn: magnitude of the result; 0: 1 + 0.1 ln(factor)
    int original_context_length = 0;       ///< llama3, yarn
    std::vector<float> frequency_factors;  ///< GGUF rope_freqs: frequency j is divided by factor j
};

/// Turns a position advances by, one for each pair, in units of 2^-64 of a turn (RPE-1 to RPE-4).
std::vector<std::uint64_t> rope_turns(const RopeConfig& config);

/// Magnitude that cosines and sines are multiplied with: 1 except for yarn (RPE-4).
float rope_magnitude(const RopeConfig& config);

/// cos and sin, [turns.size()] each, at an absolute position >= 0 (RPE-5).
void rope_table(std::span<const std::uint64_t> turns, float magnitude, std::int64_t position,
                std::span<float> cos_out, std::span<float> sin_out);

/// Rotates one head in place (RPE-6): head[head_dim], the first n_dims of it are touched.
void rope_apply(RopePairing pairing, std::span<const float> cos_in, std::span<const float> sin_in,
                std::span<float> head);

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// The shape of a Llama/Mistral/Mixtral transformer, whichever file it came from.
#pragma once

#include <cstdint>
#include <string>

#include "exact/rope.h"

namespace etalon::weights {

/// Limits on what a file may claim; far above any model, low enough that products of two fit in
/// 64 bits and every exact sum in its range (spec LIN-2: K <= 131,072).
inline constexpr std::int64_t kDimMax = 131072;
inline constexpr std::int64_t kLayersMax = 1024;
inline constexpr std::int64_t kHeadsMax = 1024;
inline constexpr std::int64_t kHeadDimMax = 512;
inline constexpr std::int64_t kVocabMax = 1 << 22;
inline constexpr std::int64_t kContextMax = 1 << 24;
inline constexpr std::int64_t kExpertsMax = 256;
/// Experts of all layers: the largest known model has 61 layers of 256.
inline constexpr std::int64_t kExpertsAllMax = 1 << 15;

/// Names are those of the field. Validated: every value in its range, n_heads a multiple of
/// n_kv_heads, head_dim even, floats finite and positive.
struct ModelConfig {
    std::string architecture = "llama";
    std::string name;
    int dim = 0;  ///< width of the residual stream
    int n_layers = 0;
    int n_heads = 0;
    int n_kv_heads = 0;
    int head_dim = 0;
    int hidden_dim = 0;      ///< width of the feed-forward layer, or of each expert
    int n_experts = 0;       ///< of every layer; 0: a feed-forward layer without experts
    int n_experts_used = 0;  ///< by a token; 0 without experts
    int vocab_size = 0;
    int context_length = 0;
    int sliding_window = 0;  ///< keys that a token sees, itself included; 0: all
    float norm_eps = 1e-5F;
    bool tied_embeddings = false;
    exact::RopeConfig rope;
};

/// Throws Error(invalid) naming the field and `file`.
void validate(const ModelConfig& config, const std::string& file);

}  // namespace etalon::weights

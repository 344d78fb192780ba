// SPDX-License-Identifier: Apache-2.0
// Ranges of a model's configuration.
#include "weights/model_config.h"

#include <cmath>
#include <fmt/format.h>

#include "base/error.h"
#include "weights/internal/contents.h"

namespace etalon::weights {

namespace {

class ConfigCheck {
  public:
    explicit ConfigCheck(const std::string& file) : file_(file) {}

    void range(const char* field, std::int64_t value, std::int64_t value_min,
               std::int64_t value_max) const {
        if (value >= value_min && value <= value_max) return;
        refuse(file_, field, fmt::format("{} is outside of {} to {}", value, value_min, value_max));
    }
    void number(const char* field, float value, float value_min, float value_max) const {
        // NOTE: written so that NaN fails.
        if (value >= value_min && value <= value_max) return;
        refuse(file_, field, fmt::format("{} is outside of {} to {}", value, value_min, value_max));
    }
    void require(bool condition, const char* field, const char* reason) const {
        if (!condition) refuse(file_, field, reason);
    }

  private:
    const std::string& file_;
};

void check_rope(const exact::RopeConfig& rope, int head_dim, const ConfigCheck& check) {
    constexpr float kBaseMax = 1e12F;       // rope.h
    constexpr float kFactorMax = 65536.0F;  // no model stretches its context further
    check.range("rope dimensions", rope.n_dims, 2, head_dim);
    check.require(rope.n_dims % 2 == 0, "rope dimensions", "must be even");
    check.number("rope base", rope.base, std::nextafter(1.0F, 2.0F), kBaseMax);
    if (rope.scaling != exact::RopeScaling::none) {
        check.number("rope scaling factor", rope.factor, 1.0F, kFactorMax);
    }
    if (rope.scaling == exact::RopeScaling::llama3 || rope.scaling == exact::RopeScaling::yarn) {
        check.range("rope original context length", rope.original_context_length, 1, kContextMax);
    }
    if (rope.scaling == exact::RopeScaling::llama3) {
        check.number("rope low frequency factor", rope.low_freq_factor, 0x1p-10F, 0x1p10F);
        check.number("rope high frequency factor", rope.high_freq_factor, 0x1p-10F, 0x1p10F);
        check.require(rope.low_freq_factor < rope.high_freq_factor, "rope low frequency factor",
                      "must be below the high one");
    }
    if (rope.scaling == exact::RopeScaling::yarn) {
        check.number("rope beta fast", rope.beta_fast, 0x1p-10F, 0x1p20F);
        check.number("rope beta slow", rope.beta_slow, 0x1p-10F, 0x1p20F);
        check.number("rope attention factor", rope.attention_factor, 0.0F, kFactorMax);
        // The ramp divides by the logarithm of the base.
        check.number("rope base", rope.base, 2.0F, kBaseMax);
    }
    const std::size_t n_factors = rope.frequency_factors.size();
    check.require(n_factors == 0 || n_factors == static_cast<std::size_t>(rope.n_dims / 2),
                  "rope frequency factors", "must be one for each pair");
    // At least 1: a frequency above one radian a position would leave the range of the turns.
    for (const float factor : rope.frequency_factors)
        check.number("rope frequency factor", factor, 1.0F, kFactorMax);
}

}  // namespace

void validate(const ModelConfig& config, const std::string& file) {
    const ConfigCheck check(file);
    check.range("width", config.dim, 1, kDimMax);
    check.range("layers", config.n_layers, 1, kLayersMax);
    check.range("heads", config.n_heads, 1, kHeadsMax);
    check.range("kv heads", config.n_kv_heads, 1, config.n_heads);
    check.require(config.n_heads % config.n_kv_heads == 0, "kv heads",
                  "must divide the number of heads");
    check.range("head width", config.head_dim, 2, kHeadDimMax);
    check.require(config.head_dim % 2 == 0, "head width", "must be even");
    check.range("heads * head width", std::int64_t{config.n_heads} * config.head_dim, 2, kDimMax);
    check.range("feed-forward width", config.hidden_dim, 1, kDimMax);
    check.range("experts", config.n_experts, 0, kExpertsMax);
    check.range("experts of all layers", std::int64_t{config.n_layers} * config.n_experts, 0,
                kExpertsAllMax);
    check.range("experts used", config.n_experts_used, config.n_experts > 0 ? 1 : 0,
                config.n_experts);
    check.range("vocabulary", config.vocab_size, 1, kVocabMax);
    check.range("context length", config.context_length, 1, kContextMax);
    check.range("sliding window", config.sliding_window, 0, kContextMax);
    constexpr float kEpsMin = 1e-12F;  // keeps the norm of a zero vector finite
    check.number("norm epsilon", config.norm_eps, kEpsMin, 1.0F);
    check_rope(config.rope, config.head_dim, check);
}

}  // namespace etalon::weights

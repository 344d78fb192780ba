// SPDX-License-Identifier: Apache-2.0
// config.json of Hugging Face.
#include "weights/internal/hf_config.h"

#include <array>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/json_text.h"

namespace etalon::weights {

namespace {

using exact::RopeScaling;
using nlohmann::json;

constexpr std::string_view kMixtral = "mixtral";
constexpr std::array<std::pair<std::string_view, std::string_view>, 3> kModelTypes{
    {{"llama", "llama"}, {"mistral", "mistral"}, {kMixtral, kMixtral}}};

constexpr std::array<std::pair<RopeScaling, std::string_view>, 4> kHfScalings{
    {{RopeScaling::none, "default"},
     {RopeScaling::linear, "linear"},
     {RopeScaling::llama3, "llama3"},
     {RopeScaling::yarn, "yarn"}}};

/// Members that change the arithmetic of other models of these names; null is harmless.
constexpr std::array<const char*, 6> kRefused{"quantization_config",    "partial_rotary_factor",
                                              "attn_logit_softcapping", "final_logit_softcapping",
                                              "embedding_multiplier",   "logits_scaling"};
constexpr const char* kExperts = "num_local_experts";
constexpr std::array<const char*, 4> kRefusedRope{"mscale", "mscale_all_dim", "short_factor",
                                                  "llama_4_scaling_beta"};

/// `rope` is "rope_scaling", or "rope_parameters" in newer files, where the base stands as well.
void read_scaling(const JsonFields& rope, ModelConfig& config) {
    for (const char* key : kRefusedRope) {
        if (rope.has(key)) rope.fail(key, "is not supported");
    }
    config.rope.base = rope.number_or("rope_theta", config.rope.base);
    if (rope.has("rope_type") || rope.has("type")) {
        config.rope.scaling =
            rope.choice(rope.has("rope_type") ? "rope_type" : "type", kHfScalings);
    }
    if (config.rope.scaling == RopeScaling::none) return;
    config.rope.factor = rope.number("factor");
    if (config.rope.scaling == RopeScaling::linear) return;
    config.rope.original_context_length =
        rope.integer_or("original_max_position_embeddings", config.context_length);
    if (config.rope.scaling == RopeScaling::llama3) {
        config.rope.low_freq_factor = rope.number("low_freq_factor");
        config.rope.high_freq_factor = rope.number("high_freq_factor");
        return;
    }
    config.rope.beta_fast = rope.number_or("beta_fast", config.rope.beta_fast);
    config.rope.beta_slow = rope.number_or("beta_slow", config.rope.beta_slow);
    config.rope.attention_factor = rope.number_or("attention_factor", 0.0F);
    if (!rope.flag_or("truncate", true)) rope.fail("truncate", "false is not supported");
}

void read_heads(const JsonFields& fields, ModelConfig& config) {
    config.n_heads = fields.integer("num_attention_heads");
    config.n_kv_heads = fields.integer_or("num_key_value_heads", config.n_heads);
    if (fields.has("head_dim")) {
        config.head_dim = fields.integer("head_dim");
        return;
    }
    if (config.n_heads < 1 || config.dim % config.n_heads != 0) {
        fields.fail("num_attention_heads",
                    fmt::format("{} does not divide {}", config.n_heads, config.dim));
    }
    config.head_dim = config.dim / config.n_heads;
}

}  // namespace

ModelConfig read_hf_config(std::string_view text, const std::string& file) {
    const json document = parse_json_text(text, "config.json", file);
    const JsonFields fields(document, "config.json", file);
    ModelConfig config;
    config.architecture = fields.choice("model_type", kModelTypes);
    for (const char* key : kRefused) {
        if (fields.has(key)) fields.fail(key, "is not supported");
    }
    if (fields.text_or("hidden_act", "silu") != "silu") {
        fields.fail("hidden_act", "only silu is supported");
    }
    config.dim = fields.integer("hidden_size");
    config.n_layers = fields.integer("num_hidden_layers");
    config.hidden_dim = fields.integer("intermediate_size");
    config.vocab_size = fields.integer("vocab_size");
    config.context_length = fields.integer("max_position_embeddings");
    config.sliding_window = fields.integer_or("sliding_window", 0);
    if (config.architecture == "llama" && config.sliding_window != 0) {
        fields.fail("sliding_window", "is not supported for llama");
    }
    config.norm_eps = fields.number("rms_norm_eps");
    config.tied_embeddings = fields.flag_or("tie_word_embeddings", false);
    if (config.architecture == kMixtral) {
        config.n_experts = fields.integer(kExperts);
        config.n_experts_used = fields.integer("num_experts_per_tok");
        if (config.n_experts < 1) fields.fail(kExperts, "must be at least 1");
    } else if (fields.has(kExperts)) {
        fields.fail(kExperts, fmt::format("is not supported for {}", config.architecture));
    }
    read_heads(fields, config);
    config.rope.pairing = exact::RopePairing::halves;
    config.rope.n_dims = config.head_dim;
    config.rope.base = fields.number_or("rope_theta", 10000.0F);
    for (const char* key : {"rope_scaling", "rope_parameters"}) {
        if (fields.has(key)) read_scaling(fields.object(key), config);
    }
    validate(config, file);
    return config;
}

std::vector<std::int32_t> read_hf_end_tokens(std::string_view text, int vocab_size,
                                             const std::string& file) {
    constexpr const char* kKey = "eos_token_id";
    const json document = parse_json_text(text, "generation_config.json", file);
    const JsonFields fields(document, "generation_config.json", file);
    if (!fields.has(kKey)) return {};
    const json& value = fields.at(kKey);
    const json list = value.is_array() ? value : json::array({value});
    std::vector<std::int32_t> out;
    for (const json& id : list) {
        const bool fits = id.is_number_unsigned() &&
                          id.get<std::uint64_t>() < static_cast<std::uint64_t>(vocab_size);
        if (!fits) fields.fail(kKey, "holds what is no token");
        out.push_back(static_cast<std::int32_t>(id.get<std::uint64_t>()));
    }
    return out;
}

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// A model's configuration as JSON.
#include "weights/internal/etalon_config.h"

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "weights/internal/json_text.h"

namespace etalon::weights {

namespace {

using exact::RopePairing;
using exact::RopeScaling;
using nlohmann::json;

constexpr std::array<std::pair<RopeScaling, std::string_view>, 4> kE8Scalings{
    {{RopeScaling::none, "none"},
     {RopeScaling::linear, "linear"},
     {RopeScaling::llama3, "llama3"},
     {RopeScaling::yarn, "yarn"}}};
constexpr std::array<std::pair<RopePairing, std::string_view>, 2> kPairings{
    {{RopePairing::interleaved, "interleaved"}, {RopePairing::halves, "halves"}}};

template <typename Value, std::size_t N>
std::string name_in(const std::array<std::pair<Value, std::string_view>, N>& table, Value value) {
    for (const auto& [entry, name] : table) {
        if (entry == value) return std::string(name);
    }
    return "";
}

json rope_to_json(const exact::RopeConfig& rope) {
    return {{"pairing", name_in(kPairings, rope.pairing)},
            {"n_dims", rope.n_dims},
            {"base", rope.base},
            {"scaling", name_in(kE8Scalings, rope.scaling)},
            {"factor", rope.factor},
            {"low_freq_factor", rope.low_freq_factor},
            {"high_freq_factor", rope.high_freq_factor},
            {"beta_fast", rope.beta_fast},
            {"beta_slow", rope.beta_slow},
            {"attention_factor", rope.attention_factor},
            {"original_context_length", rope.original_context_length},
            {"frequency_factors", rope.frequency_factors}};
}

exact::RopeConfig rope_from_json(const JsonFields& fields) {
    exact::RopeConfig rope;
    rope.pairing = fields.choice("pairing", kPairings);
    rope.n_dims = fields.integer("n_dims");
    rope.base = fields.number("base");
    rope.scaling = fields.choice("scaling", kE8Scalings);
    rope.factor = fields.number("factor");
    rope.low_freq_factor = fields.number("low_freq_factor");
    rope.high_freq_factor = fields.number("high_freq_factor");
    rope.beta_fast = fields.number("beta_fast");
    rope.beta_slow = fields.number("beta_slow");
    rope.attention_factor = fields.number("attention_factor");
    rope.original_context_length = fields.integer("original_context_length");
    rope.frequency_factors = fields.numbers("frequency_factors", kHeadDimMax);
    return rope;
}

}  // namespace

std::string config_to_json(const ModelConfig& config) {
    const json out{{"architecture", config.architecture},
                   {"name", config.name},
                   {"dim", config.dim},
                   {"n_layers", config.n_layers},
                   {"n_heads", config.n_heads},
                   {"n_kv_heads", config.n_kv_heads},
                   {"head_dim", config.head_dim},
                   {"hidden_dim", config.hidden_dim},
                   {"vocab_size", config.vocab_size},
                   {"context_length", config.context_length},
                   {"sliding_window", config.sliding_window},
                   {"norm_eps", config.norm_eps},
                   {"rope", rope_to_json(config.rope)}};
    return out.dump(-1, ' ', false, json::error_handler_t::replace);
}

ModelConfig config_from_json(std::string_view text, const std::string& file) {
    const json document = parse_json_text(text, "etalon.config", file);
    const JsonFields fields(document, "etalon.config", file);
    ModelConfig config;
    config.architecture = fields.text("architecture");
    config.name = fields.text("name");
    config.dim = fields.integer("dim");
    config.n_layers = fields.integer("n_layers");
    config.n_heads = fields.integer("n_heads");
    config.n_kv_heads = fields.integer("n_kv_heads");
    config.head_dim = fields.integer("head_dim");
    config.hidden_dim = fields.integer("hidden_dim");
    config.vocab_size = fields.integer("vocab_size");
    config.context_length = fields.integer("context_length");
    config.sliding_window = fields.integer("sliding_window");
    config.norm_eps = fields.number("norm_eps");
    config.rope = rope_from_json(fields.object("rope"));
    return config;
}

}  // namespace etalon::weights

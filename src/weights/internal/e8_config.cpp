// SPDX-License-Identifier: Apache-2.0
// A model's configuration as JSON.
#include "weights/internal/e8_config.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <utility>

#include "weights/internal/contents.h"
#include "weights/internal/json_text.h"

namespace etalon::weights {

namespace {

using exact::RopePairing;
using exact::RopeScaling;
using nlohmann::json;

constexpr std::array<std::pair<RopeScaling, std::string_view>, 4> kScalings{
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

/// Fields of a JSON object; whatever is missing or of another type is refused by its name.
class Fields {
  public:
    Fields(const json& object, std::string prefix, const std::string& file)
        : object_(object), prefix_(std::move(prefix)), file_(file) {
        if (!object.is_object()) refuse(file, prefix_, "is no JSON object");
    }

    [[noreturn]] void fail(const char* key, std::string_view reason) const {
        refuse(file_, prefix_ + "." + key, reason);
    }
    const json& at(const char* key) const {
        const auto found = object_.find(key);
        if (found == object_.end()) fail(key, "is missing");
        return *found;
    }
    std::string text(const char* key) const {
        if (!at(key).is_string()) fail(key, "is no text");
        return at(key).get<std::string>();
    }
    int integer(const char* key) const {
        const json& value = at(key);
        if (!value.is_number_integer()) fail(key, "is no whole number");
        const auto number = value.get<std::int64_t>();
        if (number < INT32_MIN || number > INT32_MAX) fail(key, "is out of range");
        return static_cast<int>(number);
    }
    float number(const char* key) const { return to_float(key, at(key)); }
    bool flag(const char* key) const {
        if (!at(key).is_boolean()) fail(key, "is neither true nor false");
        return at(key).get<bool>();
    }
    std::vector<float> numbers(const char* key) const {
        const json& list = at(key);
        if (!list.is_array() || list.size() > kHeadDimMax) fail(key, "is no list of numbers");
        std::vector<float> out;
        for (const json& value : list)
            out.push_back(to_float(key, value));
        return out;
    }
    template <typename Value, std::size_t N>
    Value choice(const char* key,
                 const std::array<std::pair<Value, std::string_view>, N>& table) const {
        const std::string name = text(key);
        for (const auto& [value, entry] : table) {
            if (entry == name) return value;
        }
        fail(key, name + " is not known");
    }

  private:
    float to_float(const char* key, const json& value) const {
        constexpr double kLargest = 3.0e38;  // a double beyond binary32 must not be converted
        if (!value.is_number() || !(std::abs(value.get<double>()) <= kLargest)) {
            fail(key, "is no number that binary32 holds");
        }
        return static_cast<float>(value.get<double>());
    }

    const json& object_;
    std::string prefix_;
    const std::string& file_;
};

json rope_to_json(const exact::RopeConfig& rope) {
    return {{"pairing", name_in(kPairings, rope.pairing)},
            {"n_dims", rope.n_dims},
            {"base", rope.base},
            {"scaling", name_in(kScalings, rope.scaling)},
            {"factor", rope.factor},
            {"low_freq_factor", rope.low_freq_factor},
            {"high_freq_factor", rope.high_freq_factor},
            {"beta_fast", rope.beta_fast},
            {"beta_slow", rope.beta_slow},
            {"attention_factor", rope.attention_factor},
            {"original_context_length", rope.original_context_length},
            {"frequency_factors", rope.frequency_factors}};
}

exact::RopeConfig rope_from_json(const Fields& fields) {
    exact::RopeConfig rope;
    rope.pairing = fields.choice("pairing", kPairings);
    rope.n_dims = fields.integer("n_dims");
    rope.base = fields.number("base");
    rope.scaling = fields.choice("scaling", kScalings);
    rope.factor = fields.number("factor");
    rope.low_freq_factor = fields.number("low_freq_factor");
    rope.high_freq_factor = fields.number("high_freq_factor");
    rope.beta_fast = fields.number("beta_fast");
    rope.beta_slow = fields.number("beta_slow");
    rope.attention_factor = fields.number("attention_factor");
    rope.original_context_length = fields.integer("original_context_length");
    rope.frequency_factors = fields.numbers("frequency_factors");
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
    const Fields fields(document, "etalon.config", file);
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
    config.rope = rope_from_json(Fields(fields.at("rope"), "etalon.config.rope", file));
    return config;
}

}  // namespace etalon::weights

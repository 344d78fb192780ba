// SPDX-License-Identifier: Apache-2.0
// A GGUF file of the llama architecture as a model: configuration and metadata. Keys that would
// change the result and are not computed are refused, never ignored.
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <utility>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/gguf.h"
#include "weights/internal/gguf_fields.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

namespace {

constexpr std::array<std::string_view, 22> kRefusedKeys{
    "llama.attention.scale",
    "llama.attention.temperature_scale",
    "llama.attention.temperature_length",
    "llama.attention.sliding_window_pattern",
    "llama.attention.clamp_kqv",
    "llama.attention.max_alibi_bias",
    "llama.attn_logit_softcapping",
    "llama.final_logit_softcapping",
    "llama.logit_scale",
    "llama.residual_scale",
    "llama.embedding_scale",
    "llama.rope.scaling.yarn_ext_factor",
    "llama.expert_feed_forward_length",
    "llama.expert_shared_count",
    "llama.expert_shared_feed_forward_length",
    "llama.expert_weights_scale",
    "llama.expert_weights_norm",
    "llama.expert_gating_func",
    "llama.expert_group_count",
    "llama.expert_group_used_count",
    "llama.leading_dense_block_count",
    "llama.interleave_moe_layer_step",
};

/// A number of every layer, which must be the same in all of them.
std::int64_t per_layer(const GgufFields& fields, std::string_view key, std::int64_t fallback,
                       std::int64_t value_max) {
    const GgufValue* value = fields.find(key);
    if (value == nullptr || !value->is_array) return fields.integer(key, fallback, 1, value_max);
    if (!value->is_integer() || value->count == 0) fields.fail(key, "must hold integers");
    const std::int64_t first = value->integer_at(0);
    for (std::uint64_t i = 1; i < value->count; ++i) {
        if (value->integer_at(i) != first) fields.fail(key, "layers that differ are not supported");
    }
    if (first < 1 || first > value_max) {
        fields.fail(key, fmt::format("{} is outside of 1 to {}", first, value_max));
    }
    return first;
}

float attention_factor(const GgufFields& fields, const exact::RopeConfig& rope) {
    constexpr std::string_view kYarn = "llama.rope.scaling.yarn_attn_factor";
    const bool named = fields.find(kYarn) != nullptr;
    const float factor = fields.number(named ? kYarn : "llama.rope.scaling.attn_factor", 1.0F);
    return factor == 1.0F ? 0.0F : exact::rope_magnitude(rope) * factor;
}

void read_rope_scaling(const GgufFields& fields, exact::RopeConfig& rope) {
    const std::string type = fields.string("llama.rope.scaling.type", "none");
    rope.factor = fields.number("llama.rope.scaling.factor", 1.0F);
    if (type == "none") {
        rope.factor = fields.number("llama.rope.scale_linear", 1.0F);
        if (rope.factor != 1.0F) rope.scaling = exact::RopeScaling::linear;
    } else if (type == "linear") {
        rope.scaling = exact::RopeScaling::linear;
    } else if (type == "yarn") {
        rope.scaling = exact::RopeScaling::yarn;
        rope.original_context_length = static_cast<int>(fields.integer(
            "llama.rope.scaling.original_context_length", std::nullopt, 1, kContextMax));
        rope.beta_fast = fields.number("llama.rope.scaling.yarn_beta_fast", 32.0F);
        rope.beta_slow = fields.number("llama.rope.scaling.yarn_beta_slow", 1.0F);
        if (fields.number("llama.rope.scaling.yarn_log_multiplier", 0.0F) != 0.0F) {
            fields.fail("llama.rope.scaling.yarn_log_multiplier", "is not supported");
        }
    } else {
        fields.fail("llama.rope.scaling.type", "'" + printable(type, 40) + "' is not supported");
    }
    if (!(rope.factor >= 1.0F)) fields.fail("llama.rope.scaling.factor", "must be at least 1");
    if (type == "yarn") rope.attention_factor = attention_factor(fields, rope);
}

void read_heads(const GgufFields& fields, ModelConfig& config) {
    config.n_heads =
        static_cast<int>(per_layer(fields, "llama.attention.head_count", kRequired, kHeadsMax));
    config.n_kv_heads = static_cast<int>(
        per_layer(fields, "llama.attention.head_count_kv", config.n_heads, kHeadsMax));
    if (config.dim % config.n_heads != 0 && fields.find("llama.attention.key_length") == nullptr) {
        fields.fail("llama.attention.head_count",
                    fmt::format("{} does not divide {}", config.n_heads, config.dim));
    }
    config.head_dim = static_cast<int>(
        fields.integer("llama.attention.key_length", config.dim / config.n_heads, 2, kHeadDimMax));
    const std::int64_t value_length =
        fields.integer("llama.attention.value_length", config.head_dim, 1, kHeadDimMax);
    if (value_length != config.head_dim) {
        fields.fail("llama.attention.value_length", "must equal the key length");
    }
}

ModelConfig read_config(const GgufFields& fields) {
    const std::string architecture = fields.string("general.architecture", std::nullopt);
    if (architecture != "llama") {
        fields.fail("general.architecture",
                    "'" + printable(architecture, 40) + "' is not supported, only llama is");
    }
    for (const std::string_view key : kRefusedKeys) {
        if (fields.find(key) != nullptr) fields.fail(key, "is not supported");
    }
    if (fields.integer("split.count", 1, 0, 1 << 16) > 1) {
        fields.fail("split.count", "a model in several GGUF files is not supported");
    }
    ModelConfig config;
    config.name = fields.string("general.name", "");
    config.dim =
        static_cast<int>(fields.integer("llama.embedding_length", std::nullopt, 1, kDimMax));
    config.n_layers =
        static_cast<int>(fields.integer("llama.block_count", std::nullopt, 1, kLayersMax));
    config.hidden_dim =
        static_cast<int>(per_layer(fields, "llama.feed_forward_length", kRequired, kDimMax));
    config.context_length =
        static_cast<int>(fields.integer("llama.context_length", std::nullopt, 1, kContextMax));
    config.sliding_window =
        static_cast<int>(fields.integer("llama.attention.sliding_window", 0, 0, kContextMax));
    config.norm_eps = fields.number("llama.attention.layer_norm_rms_epsilon", std::nullopt);
    config.n_experts = static_cast<int>(fields.integer("llama.expert_count", 0, 0, kExpertsMax));
    config.n_experts_used =
        static_cast<int>(fields.integer("llama.expert_used_count", 0, 0, kExpertsMax));
    read_heads(fields, config);
    config.rope.pairing = exact::RopePairing::interleaved;
    config.rope.n_dims = static_cast<int>(
        fields.integer("llama.rope.dimension_count", config.head_dim, 2, kHeadDimMax));
    config.rope.base = fields.number("llama.rope.freq_base", 10000.0F);
    read_rope_scaling(fields, config.rope);
    return config;
}

/// Takes rope_freqs.weight out of the tensors: it belongs to the configuration.
void take_frequency_factors(ModelContents& model, const std::string& file) {
    const auto found = std::find_if(model.tensors.begin(), model.tensors.end(),
                                    [](const Tensor& t) { return t.name == "rope_freqs.weight"; });
    if (found == model.tensors.end()) return;
    const auto n_pairs = static_cast<std::int64_t>(model.config.rope.n_dims / 2);
    if (found->n_rows != 1 || found->n_cols != n_pairs || found->format != exact::Format::f32) {
        refuse(file, "tensor rope_freqs.weight",
               fmt::format("must hold {} values of type f32", n_pairs));
    }
    model.config.rope.frequency_factors.resize(static_cast<std::size_t>(n_pairs));
    exact::dequantize_row(found->format, found->data, model.config.rope.frequency_factors);
    model.tensors.erase(found);
}

/// The layer of "blk.3.ffn_up_exps.weight" and the name of its experts, "blk.3.ffn_up".
std::optional<std::string_view> stack_name(std::string_view name) {
    constexpr std::string_view kEnd = "_exps.weight";
    if (!name.ends_with(kEnd)) return std::nullopt;
    const std::string_view stem = name.substr(0, name.size() - kEnd.size());
    for (const std::string_view part : {".ffn_gate", ".ffn_up", ".ffn_down"}) {
        if (stem.ends_with(part)) return stem;
    }
    return std::nullopt;
}

/// The tensors of the file, those of experts one by one whether the file stacks them or not:
/// matrix 2 of "blk.3.ffn_up_exps.weight" is "blk.3.ffn_up.2.weight".
std::vector<Tensor> take_tensors(std::vector<GgufTensor>& from, const ModelConfig& config,
                                 const std::string& file) {
    std::vector<Tensor> out;
    for (GgufTensor& tensor : from) {
        const auto stem = stack_name(tensor.name);
        const std::int64_t n_wanted = stem ? config.n_experts : 1;
        if (tensor.n_stacked != n_wanted) {
            refuse(file, "tensor " + tensor.name,
                   fmt::format("dimension 2 is {}, the configuration says {}", tensor.n_stacked,
                               n_wanted));
        }
        if (!stem) {
            out.push_back(static_cast<Tensor&&>(tensor));
            continue;
        }
        const auto n_stacked = static_cast<std::size_t>(tensor.n_stacked);
        if (out.size() + n_stacked > kTensorsMax) {
            refuse(file, "tensor " + tensor.name,
                   fmt::format("its experts make more than {} tensors", kTensorsMax));
        }
        const std::size_t bytes = tensor.data.size() / n_stacked;
        for (std::size_t e = 0; e < n_stacked; ++e) {
            out.push_back({fmt::format("{}.{}.weight", *stem, e),
                           tensor.format,
                           tensor.n_rows,
                           tensor.n_cols,
                           tensor.data.subspan(e * bytes, bytes),
                           {}});
        }
    }
    return out;
}

/// The rows of the embedding decide; llama.vocab_size may be missing or differ by padding.
int vocabulary_rows(const std::vector<GgufTensor>& tensors, const std::string& file) {
    for (const GgufTensor& tensor : tensors) {
        if (tensor.name != "token_embd.weight") continue;
        if (tensor.n_rows > kVocabMax) {
            refuse(file, "tensor token_embd.weight",
                   fmt::format("has {} rows, at most {} are supported", tensor.n_rows, kVocabMax));
        }
        return static_cast<int>(tensor.n_rows);
    }
    refuse(file, "tensor token_embd.weight", "is missing");
}

std::map<std::string, std::string> describe(const GgufFile& gguf) {
    constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kKeys{{
        {"general.license", "licence"},
        {"general.organization", "organization"},
        {"general.basename", "base name"},
        {"general.size_label", "size"},
        {"general.quantized_by", "quantized by"},
    }};
    std::map<std::string, std::string> out;
    out["file type"] = fmt::format("GGUF version {}", gguf.version);
    for (const auto& [key, name] : kKeys) {
        const GgufValue* value = gguf.find(key);
        if (value == nullptr || value->is_array || value->type != GgufType::string) continue;
        out[std::string(name)] = printable(value->strings[0]);
    }
    return out;
}

}  // namespace

ModelContents read_gguf_model(std::span<const std::byte> bytes, const std::string& file) {
    GgufFile gguf = parse_gguf(bytes, file);
    const GgufFields fields(gguf, file);
    ModelContents model;
    model.kind = FileKind::gguf;
    model.config = read_config(fields);
    model.config.vocab_size = vocabulary_rows(gguf.tensors, file);
    model.tokenizer = read_gguf_tokenizer(fields);
    model.metadata = describe(gguf);
    model.tensors = take_tensors(gguf.tensors, model.config, file);
    take_frequency_factors(model, file);
    validate(model.config, file);
    fit_vocabulary(model.tokenizer, model.config, file);
    check_tensors(model, file);
    return model;
}

}  // namespace etalon::weights

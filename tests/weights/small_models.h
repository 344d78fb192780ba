// SPDX-License-Identifier: Apache-2.0
// A small model in every kind of file, made by hand so that tests can break it: GGUF, safetensors,
// a folder of Hugging Face. All weights are multiples of 1/64 that f32, f16 and bf16 hold alike.
#pragma once

#include <bit>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "text/small_tokenizers.h"
#include "weights/internal/contents.h"

namespace etalon::weights {

/// The call is refused with exit code 5, and the message holds every part.
template <typename Call>
void expect_refused(const Call& call, const std::vector<std::string>& parts) {
    try {
        (void)call();
        FAIL() << "not refused: " << (parts.empty() ? "" : parts.front());
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid) << error.message();
        for (const auto& part : parts)
            EXPECT_NE(error.message().find(part), std::string::npos)
                << "'" << part << "' is not in: " << error.message();
    }
}

class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string name = std::filesystem::temp_directory_path() / "etalon-weights-XXXXXX";
        path_ = ::mkdtemp(name.data());
    }
    ~TemporaryFolder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    TemporaryFolder(const TemporaryFolder&) = delete;
    TemporaryFolder& operator=(const TemporaryFolder&) = delete;

    const std::filesystem::path& path() const { return path_; }
    std::filesystem::path write(const std::string& name, std::string_view content) const {
        std::ofstream(path_ / name, std::ios::binary) << content;
        return path_ / name;
    }

  private:
    std::filesystem::path path_;
};

inline std::string content_of(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

/// The bytes of a number, little endian as this machine and the files are.
template <typename T>
std::string raw(T value) {
    std::string out(sizeof(T), '\0');
    std::memcpy(out.data(), &value, sizeof(T));
    return out;
}

inline ModelConfig small_config() {
    ModelConfig config;
    config.dim = 64;
    config.n_layers = 2;
    config.n_heads = 2;
    config.n_kv_heads = 1;
    config.head_dim = 32;
    config.hidden_dim = 192;
    config.vocab_size = static_cast<int>(text::small_byte_bpe().tokens.size());
    config.context_length = 128;
    return config;
}

/// The small model with five experts, of which a token uses two.
inline ModelConfig small_experts_config() {
    ModelConfig config = small_config();
    config.hidden_dim = 96;
    config.n_experts = 5;
    config.n_experts_used = 2;
    return config;
}

/// Tensors that the model needs, in the order of the forward pass; the head is tied.
inline std::vector<TensorShape> small_tensors(const ModelConfig& config = small_config()) {
    std::vector<TensorShape> out;
    for (const TensorShape& shape : model_tensors(config)) {
        if (!shape.is_optional) out.push_back(shape);
    }
    return out;
}

/// k / 64 with abs(k) <= 100, by a generator that starts from the name.
inline std::vector<float> small_weights(const std::string& name, std::int64_t count) {
    std::uint64_t state = 88172645463325252U;
    for (const char c : name)
        state = (state ^ static_cast<std::uint8_t>(c)) * 1099511628211U;
    std::vector<float> out;
    for (std::int64_t i = 0; i < count; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        out.push_back(static_cast<float>(static_cast<int>((state >> 33) % 201) - 100) / 64.0F);
    }
    return out;
}

/// binary16 of a multiple of 1/64 below 2.
inline std::uint16_t half_of(float value) {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    if (value == 0.0F) return 0;
    const std::uint32_t exponent = ((bits >> 23) & 0xFF) - 127 + 15;
    return static_cast<std::uint16_t>((bits >> 16 & 0x8000) | exponent << 10 |
                                      (bits >> 13 & 0x3FF));
}

/// Weights as a type of safetensors stores them: "F32", "F16" or "BF16".
inline std::string stored(const std::vector<float>& values, std::string_view dtype) {
    std::string out;
    for (const float value : values) {
        if (dtype == "F32") out += raw(value);
        if (dtype == "F16") out += raw(half_of(value));
        if (dtype == "BF16") {
            out += raw(static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16));
        }
    }
    return out;
}

/// A GGUF file piece by piece. set() replaces a value where it stands.
class GgufBuilder {
  public:
    struct Item {
        std::string name;
        std::vector<std::uint64_t> dims;
        std::uint32_t type;
        std::string data;
        std::uint64_t shift = 0;  ///< added to the right offset
    };

    static std::string text(std::string_view s) { return raw(std::uint64_t{s.size()}) += s; }
    static std::string typed(std::uint32_t type, const std::string& value) {
        return raw(type) + value;
    }
    static std::string string_value(std::string_view s) { return typed(8, text(s)); }
    static std::string u32(std::uint32_t value) { return typed(4, raw(value)); }
    static std::string f32(float value) { return typed(6, raw(value)); }
    static std::string array(std::uint32_t type, std::uint64_t count, const std::string& values) {
        return typed(9, raw(type) + raw(count) + values);
    }

    void set(const std::string& key, const std::string& value) {
        for (auto& [known, old] : pairs) {
            if (known == key) {
                old = value;
                return;
            }
        }
        pairs.emplace_back(key, value);
    }
    void erase(const std::string& key) {
        std::erase_if(pairs, [&](const auto& pair) { return pair.first == key; });
    }
    Item& tensor(const std::string& name) {
        for (Item& item : tensors) {
            if (item.name == name) return item;
        }
        ADD_FAILURE() << "no tensor " << name;
        return tensors.front();
    }

    std::string head(std::uint32_t version = 3) const {
        std::string out = "GGUF" + raw(version) + raw(std::uint64_t{tensors.size()}) +
                          raw(std::uint64_t{pairs.size()});
        for (const auto& [key, value] : pairs)
            out += text(key) + value;
        std::uint64_t offset = 0;
        for (const Item& item : tensors) {
            out += text(item.name) + raw(static_cast<std::uint32_t>(item.dims.size()));
            for (const auto dim : item.dims)
                out += raw(dim);
            out += raw(item.type) + raw(offset + item.shift);
            offset += padded(item.data.size());
        }
        return out;
    }
    std::string build(std::uint32_t version = 3) const {
        std::string out = head(version);
        out.resize(padded(out.size()));
        for (const Item& item : tensors) {
            out += item.data;
            out.resize(padded(out.size()));
        }
        return out;
    }

    std::vector<std::pair<std::string, std::string>> pairs;
    std::vector<Item> tensors;

  private:
    static std::size_t padded(std::size_t size) { return (size + 31) / 32 * 32; }
};

inline void add_gguf_tokenizer(GgufBuilder& gguf, const text::TokenizerData& data) {
    std::string tokens;
    std::string types;
    std::string merges;
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        tokens += GgufBuilder::text(data.tokens[i]);
        types += raw(static_cast<std::int32_t>(data.types[i]));
    }
    for (const auto& [left, right] : data.merges)
        merges += GgufBuilder::text(left + " " + right);
    const std::uint64_t n_tokens = data.tokens.size();
    gguf.set("tokenizer.ggml.model", GgufBuilder::string_value("gpt2"));
    gguf.set("tokenizer.ggml.pre", GgufBuilder::string_value("gpt-2"));
    gguf.set("tokenizer.ggml.tokens", GgufBuilder::array(8, n_tokens, tokens));
    gguf.set("tokenizer.ggml.token_type", GgufBuilder::array(5, n_tokens, types));
    gguf.set("tokenizer.ggml.merges", GgufBuilder::array(8, data.merges.size(), merges));
    gguf.set("tokenizer.ggml.bos_token_id", GgufBuilder::u32(static_cast<std::uint32_t>(data.bos)));
    gguf.set("tokenizer.ggml.eos_token_id", GgufBuilder::u32(static_cast<std::uint32_t>(data.eos)));
}

/// The small model with weights in f32; experts one by one, as older files have them.
inline GgufBuilder small_gguf(const ModelConfig& config = small_config()) {
    const auto count = [](int value) {
        return GgufBuilder::u32(static_cast<std::uint32_t>(value));
    };
    GgufBuilder gguf;
    gguf.set("general.architecture", GgufBuilder::string_value("llama"));
    gguf.set("llama.block_count", count(config.n_layers));
    gguf.set("llama.context_length", count(config.context_length));
    gguf.set("llama.embedding_length", count(config.dim));
    gguf.set("llama.feed_forward_length", count(config.hidden_dim));
    gguf.set("llama.attention.head_count", count(config.n_heads));
    gguf.set("llama.attention.head_count_kv", count(config.n_kv_heads));
    gguf.set("llama.attention.layer_norm_rms_epsilon", GgufBuilder::f32(config.norm_eps));
    if (config.n_experts > 0) {
        gguf.set("llama.expert_count", count(config.n_experts));
        gguf.set("llama.expert_used_count", count(config.n_experts_used));
    }
    add_gguf_tokenizer(gguf, text::small_byte_bpe());
    for (const TensorShape& shape : small_tensors(config)) {
        const auto rows = static_cast<std::uint64_t>(shape.n_rows);
        const auto cols = static_cast<std::uint64_t>(shape.n_cols);
        auto dims = shape.is_vector ? std::vector<std::uint64_t>{cols}
                                    : std::vector<std::uint64_t>{cols, rows};
        gguf.tensors.push_back(
            {shape.name, std::move(dims), 0,
             stored(small_weights(shape.name, shape.n_rows * shape.n_cols), "F32")});
    }
    return gguf;
}

/// Puts the experts of every layer together: three dimensions, as newer files have them.
inline void stack_experts(GgufBuilder& gguf, const ModelConfig& config) {
    for (int layer = 0; layer < config.n_layers; ++layer) {
        for (const char* part : {"ffn_gate", "ffn_up", "ffn_down"}) {
            const std::string stem = "blk." + std::to_string(layer) + "." + part;
            GgufBuilder::Item stack = gguf.tensor(stem + ".0.weight");
            stack.name = stem + "_exps.weight";
            stack.dims.push_back(static_cast<std::uint64_t>(config.n_experts));
            stack.data.clear();
            for (int e = 0; e < config.n_experts; ++e) {
                const std::string name = stem + "." + std::to_string(e) + ".weight";
                stack.data += gguf.tensor(name).data;
                std::erase_if(gguf.tensors, [&](const auto& item) { return item.name == name; });
            }
            gguf.tensors.push_back(std::move(stack));
        }
    }
}

struct SafetensorsItem {
    std::string name;
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::string data;
};

/// A safetensors file of a header as it stands, which may be wrong.
inline std::string safetensors_of(const nlohmann::json& header, const std::string& data) {
    std::string text = header.dump();
    text.resize((text.size() + 8 + 63) / 64 * 64 - 8, ' ');
    return raw(std::uint64_t{text.size()}) + text + data;
}

inline std::string safetensors_of(const std::vector<SafetensorsItem>& items,
                                  const nlohmann::json& metadata = {}) {
    nlohmann::json header = nlohmann::json::object();
    if (!metadata.is_null()) header["__metadata__"] = metadata;
    std::string data;
    for (const SafetensorsItem& item : items) {
        header[item.name] = {{"dtype", item.dtype},
                             {"shape", item.shape},
                             {"data_offsets", {data.size(), data.size() + item.data.size()}}};
        data += item.data;
    }
    return safetensors_of(header, data);
}

/// The name of Hugging Face for a tensor of the small model.
inline std::string hf_name(const std::string& name) {
    static const std::vector<std::pair<std::string, std::string>> kParts{
        {"token_embd", "model.embed_tokens"},
        {"output_norm", "model.norm"},
        {"blk.", "model.layers."},
        {"attn_norm", "input_layernorm"},
        {"attn_q", "self_attn.q_proj"},
        {"attn_k", "self_attn.k_proj"},
        {"attn_v", "self_attn.v_proj"},
        {"attn_output", "self_attn.o_proj"},
        {"ffn_norm", "post_attention_layernorm"},
        {"ffn_gate_inp", "block_sparse_moe.gate"},
        {"ffn_gate.weight", "mlp.gate_proj.weight"},
        {"ffn_up.weight", "mlp.up_proj.weight"},
        {"ffn_down.weight", "mlp.down_proj.weight"}};
    static const std::vector<std::pair<std::string, std::string>> kExperts{
        {"ffn_gate.", ".w1"}, {"ffn_up.", ".w3"}, {"ffn_down.", ".w2"}};
    std::string out = name;
    for (const auto& [ours, theirs] : kExperts) {
        const auto at = out.find(ours);
        if (at == std::string::npos || out[at + ours.size()] == 'w') continue;
        out.insert(out.rfind('.'), theirs);
        out.replace(at, ours.size(), "block_sparse_moe.experts.");
    }
    for (const auto& [ours, theirs] : kParts) {
        const auto at = out.find(ours);
        if (at != std::string::npos) out.replace(at, ours.size(), theirs);
    }
    return out;
}

inline std::vector<SafetensorsItem> small_hf_tensors(const std::string& dtype,
                                                     const ModelConfig& config = small_config()) {
    std::vector<SafetensorsItem> items;
    for (const TensorShape& shape : small_tensors(config)) {
        auto dims = shape.is_vector ? std::vector<std::int64_t>{shape.n_cols}
                                    : std::vector<std::int64_t>{shape.n_rows, shape.n_cols};
        items.push_back({hf_name(shape.name), dtype, std::move(dims),
                         stored(small_weights(shape.name, shape.n_rows * shape.n_cols), dtype)});
    }
    return items;
}

inline nlohmann::json small_hf_config(const ModelConfig& config = small_config()) {
    nlohmann::json out = {{"model_type", "llama"},
                          {"hidden_size", config.dim},
                          {"intermediate_size", config.hidden_dim},
                          {"num_hidden_layers", config.n_layers},
                          {"num_attention_heads", config.n_heads},
                          {"num_key_value_heads", config.n_kv_heads},
                          {"vocab_size", config.vocab_size},
                          {"max_position_embeddings", config.context_length},
                          {"rms_norm_eps", 1e-5},
                          {"rope_theta", 10000.0},
                          {"hidden_act", "silu"},
                          {"tie_word_embeddings", true}};
    if (config.n_experts > 0) {
        out["model_type"] = "mixtral";
        out["num_local_experts"] = config.n_experts;
        out["num_experts_per_tok"] = config.n_experts_used;
    }
    return out;
}

inline nlohmann::json small_tokenizer_json() {
    const text::TokenizerData data = text::small_byte_bpe();
    nlohmann::json vocab = nlohmann::json::object();
    nlohmann::json added = nlohmann::json::array();
    nlohmann::json merges = nlohmann::json::array();
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        if (data.types[i] == text::TokenType::normal) {
            vocab[data.tokens[i]] = i;
        } else {
            const bool special = data.types[i] == text::TokenType::control;
            added.push_back({{"id", i}, {"content", data.tokens[i]}, {"special", special}});
        }
    }
    for (const auto& [left, right] : data.merges)
        merges.push_back(left + " " + right);
    return {{"added_tokens", added},
            {"pre_tokenizer",
             {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
            {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

/// Everything of a folder of Hugging Face but the tensors.
inline void write_hf_texts(const TemporaryFolder& folder) {
    folder.write("config.json", small_hf_config().dump());
    folder.write("tokenizer.json", small_tokenizer_json().dump());
    folder.write("tokenizer_config.json",
                 R"({"eos_token": "<|im_end|>", "bos_token": {"content": "<|begin_of_text|>"}})");
}

/// The tensors in two files, alternating, and the index of them.
inline void write_shards(const TemporaryFolder& folder, const std::string& dtype) {
    const std::vector<std::string> names{"model-00001-of-00002.safetensors",
                                         "model-00002-of-00002.safetensors"};
    std::vector<SafetensorsItem> parts[2];
    nlohmann::json index;
    std::size_t next = 0;
    for (const SafetensorsItem& item : small_hf_tensors(dtype)) {
        index["weight_map"][item.name] = names[next % 2];
        parts[next++ % 2].push_back(item);
    }
    folder.write(names[0], safetensors_of(parts[0]));
    folder.write(names[1], safetensors_of(parts[1]));
    folder.write("model.safetensors.index.json", index.dump());
}

}  // namespace etalon::weights

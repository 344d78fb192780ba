// SPDX-License-Identifier: Apache-2.0
// A model as Hugging Face stores it, with its tensors under the names of GGUF.
#include "weights/internal/hf_model.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <fmt/format.h>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/file.h"
#include "text/tokenizer_file.h"
#include "weights/internal/hf_config.h"
#include "weights/internal/json_text.h"
#include "weights/internal/limits.h"

namespace etalon::weights {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using NamePair = std::pair<std::string_view, std::string_view>;

constexpr std::string_view kLayerPrefix = "model.layers.";
// Files of old versions keep what every reader computes itself.
constexpr std::string_view kComputedSuffix = ".self_attn.rotary_emb.inv_freq";

constexpr std::array<NamePair, 3> kOuterNames{
    {{"model.embed_tokens", "token_embd"}, {"model.norm", "output_norm"}, {"lm_head", "output"}}};
constexpr std::array<NamePair, 10> kLayerNames{{{"input_layernorm", "attn_norm"},
                                                {"self_attn.q_proj", "attn_q"},
                                                {"self_attn.k_proj", "attn_k"},
                                                {"self_attn.v_proj", "attn_v"},
                                                {"self_attn.o_proj", "attn_output"},
                                                {"post_attention_layernorm", "ffn_norm"},
                                                {"mlp.gate_proj", "ffn_gate"},
                                                {"mlp.up_proj", "ffn_up"},
                                                {"mlp.down_proj", "ffn_down"},
                                                {"block_sparse_moe.gate", "ffn_gate_inp"}}};
constexpr std::string_view kExpertPrefix = "block_sparse_moe.experts.";
constexpr std::array<NamePair, 3> kExpertNames{
    {{"w1", "ffn_gate"}, {"w3", "ffn_up"}, {"w2", "ffn_down"}}};
constexpr std::array<std::pair<std::string_view, exact::Format>, 3> kDtypes{
    {{"F32", exact::Format::f32}, {"F16", exact::Format::f16}, {"BF16", exact::Format::bf16}}};

template <std::size_t N>
std::string_view renamed(const std::array<NamePair, N>& table, std::string_view name) {
    for (const auto& [theirs, ours] : table) {
        if (theirs == name) return ours;
    }
    return "";
}

/// "3" to 3; nothing for what is no plain number, as "+3" or "03".
std::optional<int> number_of(std::string_view digits) {
    int number = 0;
    const auto* end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, number);
    const bool plain = error == std::errc() && stop == end && number >= 0 &&
                       (digits.size() == 1 || digits.front() != '0');
    return plain ? std::optional(number) : std::nullopt;
}

/// What follows "blk.3.": "mlp.up_proj" is "ffn_up", "block_sparse_moe.experts.2.w3" "ffn_up.2".
std::string layer_part(std::string_view name) {
    if (!name.starts_with(kExpertPrefix)) return std::string(renamed(kLayerNames, name));
    const auto rest = name.substr(kExpertPrefix.size());
    const auto dot = rest.find('.');
    if (dot == std::string_view::npos) return "";
    const auto expert = number_of(rest.substr(0, dot));
    const auto part = renamed(kExpertNames, rest.substr(dot + 1));
    return expert && !part.empty() ? fmt::format("{}.{}", part, *expert) : "";
}

/// GGUF's name of a tensor: "model.layers.3.mlp.up_proj.weight" is "blk.3.ffn_up.weight". A name
/// that is not known stays as it is, and check_tensors() refuses it.
std::string gguf_name(const std::string& name) {
    const auto dot = name.rfind('.');
    const std::string_view whole = name;
    if (dot == std::string::npos) return name;
    const auto kind = whole.substr(dot);
    if (kind != ".weight" && kind != ".bias") return name;
    const auto stem = whole.substr(0, dot);
    if (const auto outer = renamed(kOuterNames, stem); !outer.empty()) {
        return fmt::format("{}{}", outer, kind);
    }
    if (!stem.starts_with(kLayerPrefix)) return name;
    const auto rest = stem.substr(kLayerPrefix.size());
    const auto end = rest.find('.');
    if (end == std::string_view::npos) return name;
    const auto layer = number_of(rest.substr(0, end));
    const auto inner = layer_part(rest.substr(end + 1));
    if (!layer || inner.empty()) return name;
    return fmt::format("blk.{}.{}{}", *layer, inner, kind);
}

Tensor tensor_of(const SafetensorsEntry& entry, const std::string& file) {
    const std::string field = "tensor " + entry.name;
    const auto* known = std::find_if(kDtypes.begin(), kDtypes.end(),
                                     [&](const auto& pair) { return pair.first == entry.dtype; });
    if (known == kDtypes.end()) {
        refuse(file, field, fmt::format("type {} is not supported", entry.dtype));
    }
    const auto& shape = entry.shape;
    if (shape.empty() || shape.size() > 2) {
        refuse(file, field, fmt::format("has {} dimensions", shape.size()));
    }
    const std::int64_t n_rows = shape.size() == 2 ? shape[0] : 1;
    const std::int64_t n_cols = shape.back();
    const std::size_t element = *exact::row_bytes(known->second, 1);
    // A map starts at a page, so the address tells the place in the file.
    if (reinterpret_cast<std::uintptr_t>(entry.data.data()) % element != 0) {
        refuse(file, field, fmt::format("is not aligned to {} bytes", element));
    }
    return {gguf_name(entry.name), known->second, n_rows, n_cols, entry.data, {}};
}

bool is_plain_file_name(std::string_view name) {
    constexpr std::string_view kEnd = ".safetensors";
    constexpr std::size_t kFileNameMax = 255;
    const bool harmless = std::all_of(name.begin(), name.end(), [](char c) {
        return c >= ' ' && c <= '~' && c != '/' && c != '\\';
    });
    return harmless && name.size() <= kFileNameMax && name.size() > kEnd.size() &&
           name.front() != '.' && name.ends_with(kEnd);
}

std::string read_optional(const fs::path& path, std::size_t bytes_max, const FileCheck& check) {
    std::error_code error;
    return fs::exists(path, error) ? read_file(path, bytes_max, check) : std::string();
}

text::TokenizerData read_tokenizer(const HfTexts& texts) {
    const std::string config_file = texts.folder + "/tokenizer_config.json";
    text::TokenizerData data;
    if (!texts.tokenizer_json.empty()) {
        data = text::read_tokenizer_json(texts.tokenizer_json, texts.folder + "/tokenizer.json");
    } else if (!texts.tokenizer_model.empty()) {
        const auto proto = std::as_bytes(std::span(texts.tokenizer_model));
        data = text::read_tokenizer_model(proto, texts.folder + "/tokenizer.model");
    } else {
        refuse(texts.folder, "tokenizer", "there is no tokenizer.json and no tokenizer.model");
    }
    if (!texts.tokenizer_config.empty()) {
        text::apply_tokenizer_config(texts.tokenizer_config, config_file, data);
    }
    if (data.chat_template.empty()) data.chat_template = texts.chat_template;
    return data;
}

/// Ends that generation_config.json names beside those that are known by name.
void add_end_tokens(const HfTexts& texts, const ModelConfig& config, text::TokenizerData& data) {
    if (texts.generation_config.empty()) return;
    const std::string file = texts.folder + "/generation_config.json";
    for (const auto id : read_hf_end_tokens(texts.generation_config, config.vocab_size, file))
        data.end_of_turn.push_back(id);
    std::sort(data.end_of_turn.begin(), data.end_of_turn.end());
    data.end_of_turn.erase(std::unique(data.end_of_turn.begin(), data.end_of_turn.end()),
                           data.end_of_turn.end());
}

}  // namespace

ShardIndex read_shard_index(std::string_view text, const std::string& file) {
    constexpr const char* kMap = "weight_map";
    const json document = parse_json_text(text, "index", file);
    const JsonFields fields(document, "index", file);
    const json& map = fields.at(kMap);
    if (!map.is_object() || map.empty()) fields.fail(kMap, "names no tensors");
    if (map.size() > kTensorsMax) fields.fail(kMap, "names too many tensors");
    ShardIndex index;
    std::set<std::string> files;
    for (const auto& [tensor, value] : map.items()) {
        const std::string name = value.is_string() ? value.get<std::string>() : std::string();
        if (!is_plain_file_name(name)) {
            fields.fail(fmt::format("{}.{}", kMap, tensor),
                        fmt::format("'{}' is no name of a safetensors file", printable(name, 80)));
        }
        index.file_of.emplace(tensor, name);
        files.insert(name);
    }
    if (files.size() > kShardsMax) fields.fail(kMap, "names too many files");
    index.files.assign(files.begin(), files.end());
    return index;
}

void check_shards(const ShardIndex& index, const std::vector<Shard>& shards,
                  const std::string& index_file) {
    ETALON_ASSERT(shards.size() == index.files.size());
    std::size_t found = 0;
    std::set<std::string_view> names;
    for (std::size_t i = 0; i < shards.size(); ++i) {
        for (const SafetensorsEntry& entry : shards[i].content.entries) {
            const auto said = index.file_of.find(entry.name);
            if (said == index.file_of.end() || said->second != index.files[i]) {
                refuse(shards[i].file, "tensor " + entry.name, "the index does not say it is here");
            }
            names.insert(entry.name);
            ++found;
        }
    }
    if (found == index.file_of.size()) return;
    for (const auto& [name, file] : index.file_of) {
        if (names.count(name) == 0) {
            refuse(index_file, "tensor " + name, fmt::format("is not in {}", printable(file)));
        }
    }
}

HfTexts read_hf_texts(const fs::path& folder, const std::string& file, const FileCheck& check) {
    HfTexts texts;
    texts.folder = folder.string();
    texts.config = read_optional(folder / "config.json", kConfigBytesMax, check);
    if (texts.config.empty()) {
        refuse(file, "config.json", "is missing or empty beside this file, which needs it");
    }
    texts.generation_config =
        read_optional(folder / "generation_config.json", kConfigBytesMax, check);
    constexpr std::size_t kTokenizerMax = text::kTokenizerFileBytesMax;
    texts.tokenizer_json = read_optional(folder / "tokenizer.json", kTokenizerMax, check);
    texts.tokenizer_model = read_optional(folder / "tokenizer.model", kTokenizerMax, check);
    texts.tokenizer_config = read_optional(folder / "tokenizer_config.json", kTokenizerMax, check);
    texts.chat_template = read_optional(folder / "chat_template.jinja", kConfigBytesMax, check);
    return texts;
}

ModelContents read_hf_model(const HfTexts& texts, const std::vector<Shard>& shards,
                            const std::string& file) {
    ModelContents model;
    model.kind = FileKind::safetensors;
    model.config = read_hf_config(texts.config, texts.folder + "/config.json");
    model.tokenizer = read_tokenizer(texts);
    add_end_tokens(texts, model.config, model.tokenizer);
    const bool tied = model.config.tied_embeddings;
    for (const Shard& shard : shards) {
        for (const SafetensorsEntry& entry : shard.content.entries) {
            if (entry.name.ends_with(kComputedSuffix)) continue;
            // Tied: the embedding is the head, and a second copy of it counts for nothing.
            if (tied && entry.name == "lm_head.weight") continue;
            model.tensors.push_back(tensor_of(entry, shard.file));
        }
    }
    model.metadata["file type"] =
        shards.size() == 1 ? "safetensors" : fmt::format("safetensors in {} files", shards.size());
    fit_vocabulary(model.tokenizer, model.config, file);
    check_tensors(model, file);
    if (model.config.tied_embeddings && !tied) {
        refuse(file, "tensor lm_head.weight", "is missing, and config.json ties no embeddings");
    }
    return model;
}

}  // namespace etalon::weights

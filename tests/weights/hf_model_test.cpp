// SPDX-License-Identifier: Apache-2.0
// Folders of Hugging Face: what is read, and what is refused by name.
#include "weights/internal/hf_model.h"

#include <functional>

#include "small_models.h"
#include "weights/internal/hf_config.h"
#include "weights/model_file.h"

namespace etalon::weights {
namespace {

using nlohmann::json;

constexpr const char* kConfigFile = "config.json";

ModelConfig config_of(const json& config) {
    return read_hf_config(config.dump(), kConfigFile);
}

json with(const std::string& key, const json& value) {
    json config = small_hf_config();
    config[key] = value;
    return config;
}

void expect_config_refused(const std::string& key, const json& value, const std::string& field,
                           const std::string& reason) {
    expect_refused([&] { return config_of(with(key, value)); }, {field, reason, kConfigFile});
}

TEST(HfConfig, llama_and_mistral) {
    const ModelConfig llama = config_of(small_hf_config());
    EXPECT_EQ(llama.architecture, "llama");
    EXPECT_EQ(llama.head_dim, 32);
    EXPECT_EQ(llama.rope.pairing, exact::RopePairing::halves);
    EXPECT_EQ(llama.rope.n_dims, 32);
    EXPECT_EQ(llama.rope.base, 10000.0F);
    EXPECT_TRUE(llama.tied_embeddings);
    json mistral = with("model_type", "mistral");
    mistral["sliding_window"] = 16;
    mistral["head_dim"] = 64;
    mistral["tie_word_embeddings"] = false;
    EXPECT_EQ(config_of(mistral).sliding_window, 16);
    EXPECT_EQ(config_of(mistral).head_dim, 64);
    mistral["sliding_window"] = nullptr;
    EXPECT_EQ(config_of(mistral).sliding_window, 0);
}

TEST(HfConfig, rope_scaling) {
    const json llama3{{"rope_type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 64}};
    const exact::RopeConfig rope = config_of(with("rope_scaling", llama3)).rope;
    EXPECT_EQ(rope.scaling, exact::RopeScaling::llama3);
    EXPECT_EQ(rope.factor, 8.0F);
    EXPECT_EQ(rope.original_context_length, 64);
    const json yarn{{"type", "yarn"}, {"factor", 4}, {"beta_fast", 16}};
    EXPECT_EQ(config_of(with("rope_scaling", yarn)).rope.beta_fast, 16.0F);
    EXPECT_EQ(config_of(with("rope_scaling", yarn)).rope.original_context_length, 128);
    const json newer{{"rope_type", "default"}, {"rope_theta", 5e5}};
    EXPECT_EQ(config_of(with("rope_parameters", newer)).rope.base, 5e5F);
    expect_config_refused("rope_scaling", {{"rope_type", "longrope"}}, "rope_scaling.rope_type",
                          "'longrope' is not known");
    expect_config_refused("rope_scaling", {{"type", "linear"}}, "rope_scaling.factor",
                          "is missing");
    expect_config_refused("rope_scaling", {{"type", "linear"}, {"factor", 0.5}},
                          "rope scaling factor", "is outside of");
    expect_config_refused("rope_scaling", {{"type", "yarn"}, {"factor", 2}, {"mscale", 1}},
                          "rope_scaling.mscale", "is not supported");
    expect_config_refused("rope_scaling", 7, "rope_scaling", "is no JSON object");
}

TEST(HfConfig, wrong_fields) {
    for (const char* key :
         {"model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
          "num_attention_heads", "vocab_size", "max_position_embeddings", "rms_norm_eps"}) {
        json config = small_hf_config();
        config.erase(key);
        expect_refused([&] { return config_of(config); }, {key, "is missing", kConfigFile});
        expect_config_refused(key, json::array(), key, "is no ");
    }
    for (const char* key : {"hidden_size", "num_attention_heads", "vocab_size"}) {
        expect_config_refused(key, ~std::uint64_t{0}, key, "is out of range");
        expect_config_refused(key, 1LL << 40, key, "is out of range");
        expect_config_refused(key, 64.5, key, "is no whole number");
    }
    expect_config_refused("hidden_size", 0, "width", "0 is outside of");
    expect_config_refused("hidden_size", -64, "", kConfigFile);
    expect_config_refused("num_attention_heads", 0, "num_attention_heads", "does not divide");
    expect_config_refused("num_attention_heads", 3, "num_attention_heads", "3 does not divide 64");
    expect_config_refused("num_key_value_heads", 0, "kv heads", "0 is outside of");
    expect_config_refused("head_dim", 31, "head width", "must be even");
    expect_config_refused("rms_norm_eps", 0.0, "norm epsilon", "is outside of");
    expect_config_refused("rms_norm_eps", 1e300, "rms_norm_eps", "is no number");
    expect_config_refused("rope_theta", 0.5, "rope base", "is outside of");
    expect_config_refused("model_type", "gemma3", "model_type", "'gemma3' is not known");
    expect_config_refused("hidden_act", "gelu", "hidden_act", "only silu");
    expect_config_refused("quantization_config", {{"quant_method", "gptq"}}, "quantization_config",
                          "is not supported");
    expect_config_refused("sliding_window", 16, "sliding_window", "for llama");
    expect_config_refused("tie_word_embeddings", 1, "tie_word_embeddings",
                          "neither true nor false");
    expect_refused([] { return read_hf_config("{", kConfigFile); },
                   {"config.json", "is no JSON at byte"});
    expect_refused([] { return read_hf_config("[]", kConfigFile); },
                   {"config.json", "no JSON object"});
}

TEST(HfEndTokens, numbers_and_lists) {
    const auto ends = [](const char* text) { return read_hf_end_tokens(text, 100, "g.json"); };
    EXPECT_EQ(ends(R"({"eos_token_id": 7})"), (std::vector<std::int32_t>{7}));
    EXPECT_EQ(ends(R"({"eos_token_id": [7, 99]})"), (std::vector<std::int32_t>{7, 99}));
    EXPECT_TRUE(ends("{}").empty());
    for (const char* text : {R"({"eos_token_id": 100})", R"({"eos_token_id": [-1]})",
                             R"({"eos_token_id": "7"})", R"({"eos_token_id": [1.5]})"}) {
        expect_refused([&] { return ends(text); }, {"eos_token_id", "no token", "g.json"});
    }
}

TEST(ShardIndex, wrong_indexes) {
    const auto refused = [](const std::string& text, const std::vector<std::string>& parts) {
        expect_refused([&] { return read_shard_index(text, "i.json"); }, parts);
    };
    refused("", {"index", "is no JSON", "i.json"});
    refused("{}", {"index.weight_map", "is missing"});
    refused(R"({"weight_map": []})", {"index.weight_map", "names no tensors"});
    refused(R"({"weight_map": {}})", {"index.weight_map", "names no tensors"});
    for (const char* name : {"../a.safetensors", "/a.safetensors", "a\\\\b.safetensors", "a.bin",
                             ".safetensors", ".a.safetensors", "a\\u0000.safetensors", ""}) {
        refused(std::string(R"({"weight_map": {"w": ")") + name + "\"}}",
                {"index.weight_map.w", "is no name of a safetensors file", "i.json"});
    }
    refused(R"({"weight_map": {"w": 1}})", {"index.weight_map.w"});
    refused(R"({"weight_map": {"w": "a.safetensors", "w": "b.safetensors"}})", {"names w twice"});
}

class HfFolder : public testing::Test {
  protected:
    void SetUp() override { write_hf_texts(folder_); }
    void write_tensors(const std::vector<SafetensorsItem>& items) const {
        folder_.write("model.safetensors", safetensors_of(items));
    }
    ModelFile open() const { return ModelFile::open(folder_.path()); }
    void expect_open_refused(const std::vector<std::string>& parts) const {
        expect_refused([&] { return open(); }, parts);
    }
    TemporaryFolder folder_;
};

TEST_F(HfFolder, one_file) {
    write_tensors(small_hf_tensors("F32"));
    for (const auto& path : {folder_.path(), folder_.path() / "model.safetensors"}) {
        const ModelFile file = ModelFile::open(path);
        EXPECT_EQ(file.kind(), FileKind::safetensors);
        EXPECT_FALSE(file.rotated());
        const Tensor& up = file.tensor("blk.1.ffn_up.weight", 192, 64);
        EXPECT_EQ(up.format, exact::Format::f32);
        const std::string right = stored(small_weights(up.name, 192 * 64), "F32");
        EXPECT_EQ(std::memcmp(up.data.data(), right.data(), right.size()), 0);
        EXPECT_EQ(file.tokenizer().tokens, text::small_byte_bpe().tokens);
        EXPECT_EQ(file.tokenizer().eos, text::kSmallImEnd);
        EXPECT_EQ(file.tokenizer().bos, text::kSmallBos);
        EXPECT_TRUE(file.config().tied_embeddings);
    }
}

TEST_F(HfFolder, two_files_with_an_index) {
    write_shards(folder_, "BF16");
    const ModelFile file = open();
    EXPECT_EQ(file.files().size(), 2U);
    EXPECT_EQ(file.tensors().size(), small_tensors().size());
    EXPECT_EQ(file.tensor("blk.0.attn_k.weight", 32, 64).format, exact::Format::bf16);
    EXPECT_EQ(file.metadata().at("file type"), "safetensors in 2 files");
    EXPECT_EQ(ModelFile::open(folder_.path() / "model.safetensors.index.json").files().size(), 2U);
}

TEST_F(HfFolder, an_index_that_disagrees_with_its_files) {
    write_shards(folder_, "F32");
    const auto index_path = folder_.path() / "model.safetensors.index.json";
    const json index = json::parse(content_of(index_path));
    const std::string first = "model-00001-of-00002.safetensors";
    json changed = index;
    changed["weight_map"]["model.norm.weight"] = "absent.safetensors";
    folder_.write(index_path.filename(), changed.dump());
    expect_open_refused({"file absent.safetensors", "is missing", "index.json"});
    changed = index;
    changed["weight_map"].erase("model.embed_tokens.weight");
    folder_.write(index_path.filename(), changed.dump());
    expect_open_refused({"tensor model.embed_tokens.weight", "index does not say", first});
    changed = index;
    changed["weight_map"]["more"] = first;
    folder_.write(index_path.filename(), changed.dump());
    expect_open_refused({"tensor more", "is not in " + first, "index.json"});
    folder_.write(index_path.filename(), index.dump());
    folder_.write(first, content_of(folder_.path() / first).substr(0, 5000));
    expect_open_refused({"tensor ", first});
}

TEST_F(HfFolder, ties_and_the_head) {
    auto items = small_hf_tensors("F16");
    auto head = items.front();
    head.name = "lm_head.weight";
    items.push_back(head);
    write_tensors(items);
    EXPECT_FALSE(open().has("output.weight"));  // tied: a second copy counts for nothing
    folder_.write("config.json", with("tie_word_embeddings", false).dump());
    EXPECT_TRUE(open().has("output.weight"));
    items.pop_back();
    write_tensors(items);
    expect_open_refused({"tensor lm_head.weight", "is missing"});
}

TEST_F(HfFolder, wrong_tensors) {
    const auto refused = [&](const std::function<void(SafetensorsItem&)>& change,
                             const std::vector<std::string>& parts) {
        auto items = small_hf_tensors("F32");
        change(items[3]);  // model.layers.0.self_attn.k_proj.weight, 32 x 64
        write_tensors(items);
        expect_open_refused(parts);
    };
    const std::string name = "tensor model.layers.0.self_attn.k_proj.weight";
    refused([](auto& t) { t.dtype = "I32"; }, {name, "type I32 is not supported", ".safetensors"});
    refused([](auto& t) { t.shape = {32, 8, 8}; }, {name, "has 3 dimensions", ".safetensors"});
    refused(
        [](auto& t) {
            t.shape = {64, 32};
        },
        {"tensor blk.0.attn_k.weight", "is 64 x 32, the configuration says 32 x 64"});
    refused([](auto& t) { t.name = "model.layers.00.self_attn.k_proj.weight"; }, {"is missing"});
    refused([](auto& t) { t.name = "vision.weight"; }, {"tensor blk.0.attn_k.weight: is missing"});
    refused([](auto& t) { t.data.replace(4, 4, raw(0x7F800000)); },
            {"tensor blk.0.attn_k.weight", "row 0 holds infinity or NaN"});
    auto items = small_hf_tensors("F32");
    items.push_back({"model.layers.9.mlp.up_proj.weight", "F32", {1}, raw(1.0F)});
    write_tensors(items);
    expect_open_refused({"tensor blk.9.ffn_up.weight", "is not part of a model"});
    items.back() = {"model.layers.0.self_attn.rotary_emb.inv_freq", "F32", {1}, raw(1.0F)};
    write_tensors(items);
    EXPECT_EQ(open().tensors().size(), small_tensors().size());
}

TEST_F(HfFolder, missing_and_wrong_files) {
    expect_open_refused({"folder", "holds no model.safetensors", folder_.path().string()});
    write_tensors(small_hf_tensors("F32"));
    std::filesystem::remove(folder_.path() / "tokenizer.json");
    expect_open_refused({"tokenizer", "no tokenizer.json and no tokenizer.model"});
    folder_.write("tokenizer.model", "no protobuf");
    expect_open_refused({"model", "tokenizer.model"});
    folder_.write("tokenizer.json", "{}");
    expect_open_refused({"tokenizer.json"});
    folder_.write("tokenizer.json", small_tokenizer_json().dump());
    folder_.write("tokenizer_config.json", R"({"eos_token": "absent"})");
    expect_open_refused({"eos_token", "is no token", "tokenizer_config.json"});
    folder_.write("tokenizer_config.json", "{}");
    folder_.write("generation_config.json", R"({"eos_token_id": 5000})");
    expect_open_refused({"eos_token_id", "generation_config.json"});
    folder_.write("generation_config.json", R"({"eos_token_id": [3, 1]})");
    folder_.write("chat_template.jinja", "a template");
    EXPECT_EQ(open().tokenizer().chat_template, "a template");
    EXPECT_EQ(open().tokenizer().end_of_turn.front(), 1);
    std::filesystem::remove(folder_.path() / "config.json");
    expect_open_refused({"config.json", "is missing or empty beside", "model.safetensors"});
}

}  // namespace
}  // namespace etalon::weights

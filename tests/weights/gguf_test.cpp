// SPDX-License-Identifier: Apache-2.0
// GGUF files that are broken in one place each: the message names file, field and reason.
#include "weights/internal/gguf.h"

#include <functional>
#include <limits>

#include "small_models.h"

namespace etalon::weights {
namespace {

constexpr const char* kFile = "small.gguf";
const auto kNan = std::numeric_limits<float>::quiet_NaN();
const auto kInfinity = std::numeric_limits<float>::infinity();

ModelContents read(const std::string& bytes) {
    ModelContents model = read_gguf_model(std::as_bytes(std::span(bytes)), kFile);
    check_finite(model.tensors, kFile);
    return model;
}

/// The small model after `change` is refused, with the parts and the name of the file.
void expect_refused_after(const std::function<void(GgufBuilder&)>& change,
                          std::vector<std::string> parts) {
    GgufBuilder gguf = small_gguf();
    change(gguf);
    parts.emplace_back(kFile);
    expect_refused([&] { return read(gguf.build()); }, parts);
}

void expect_key_refused(const std::string& key, const std::string& value,
                        const std::string& reason) {
    expect_refused_after([&](GgufBuilder& gguf) { gguf.set(key, value); }, {key, reason});
}

TEST(Gguf, versions_2_and_3_are_read) {
    for (const std::uint32_t version : {2U, 3U}) {
        const ModelContents model = read(small_gguf().build(version));
        EXPECT_EQ(model.config.dim, 64);
        EXPECT_EQ(model.config.n_kv_heads, 1);
        EXPECT_EQ(model.config.head_dim, 32);
        EXPECT_EQ(model.config.rope.pairing, exact::RopePairing::interleaved);
        EXPECT_TRUE(model.config.tied_embeddings);
        EXPECT_EQ(model.tensors.size(), small_tensors().size());
        EXPECT_EQ(model.tokenizer.tokens, text::small_byte_bpe().tokens);
        EXPECT_EQ(model.metadata.at("file type"), "GGUF version " + std::to_string(version));
    }
}

TEST(Gguf, every_cut_is_refused) {
    const GgufBuilder gguf = small_gguf();
    const std::string whole = gguf.build();
    const std::size_t head = gguf.head().size();
    for (std::size_t size = 0; size < head; size += size < 512 ? 1 : 7)
        expect_refused([&] { return read(whole.substr(0, size)); }, {kFile});
    // Up to 31 bytes behind the last tensor are padding.
    for (std::size_t size = head; size + 31 < whole.size(); size += 4099)
        expect_refused([&] { return read(whole.substr(0, size)); },
                       {"tensor ", "the file has", kFile});
}

TEST(Gguf, wrong_beginning) {
    std::string bytes = small_gguf().build();
    bytes[0] = 'X';
    expect_refused([&] { return read(bytes); }, {"magic", "not a GGUF file", kFile});
    expect_refused([] { return read(small_gguf().build(1)); }, {"version", "1 is not supported"});
    expect_refused([] { return read(small_gguf().build(0x03000000)); }, {"version", "big-endian"});
    bytes = small_gguf().build();
    const auto claim = [&](std::size_t at, std::uint64_t count) {
        return std::string(bytes).replace(at, 8, raw(count));
    };
    const std::uint64_t huge = std::uint64_t{1} << 63;
    expect_refused([&] { return read(claim(8, huge)); }, {"tensor_count", "do not fit"});
    expect_refused([&] { return read(claim(8, 60000)); }, {"tensor_count", "60000 tensors"});
    expect_refused([&] { return read(claim(16, huge)); }, {"kv_count", "do not fit"});
    expect_refused([&] { return read(claim(24, huge)); }, {"key 0", "at most 65535"});
}

TEST(Gguf, wrong_values) {
    const auto strings = [](std::uint64_t count) { return GgufBuilder::array(8, count, ""); };
    expect_key_refused("a", GgufBuilder::typed(13, ""), "value type 13 is unknown");
    expect_key_refused("a", GgufBuilder::array(9, 1, ""), "arrays of arrays");
    expect_key_refused("a", GgufBuilder::array(10, std::uint64_t{1} << 61, ""), "do not fit");
    expect_key_refused("a", GgufBuilder::array(0, ~std::uint64_t{0}, ""), "do not fit");
    expect_key_refused("a", strings(std::uint64_t{1} << 61), "strings do not fit");
    expect_key_refused("a", GgufBuilder::typed(8, raw(std::uint64_t{1} << 40)), "at most 16777216");
    expect_refused_after(
        [](GgufBuilder& gguf) {
            gguf.pairs.emplace_back("llama.block_count", GgufBuilder::u32(2));
        },
        {"llama.block_count", "is there twice"});
    for (const std::uint32_t alignment : {0U, 3U, 4U, 1U << 17})
        expect_key_refused("general.alignment", GgufBuilder::u32(alignment), "power of two");
    expect_key_refused("general.alignment", GgufBuilder::f32(32), "power of two");
}

TEST(Gguf, missing_keys) {
    for (const char* key :
         {"general.architecture", "llama.block_count", "llama.context_length",
          "llama.embedding_length", "llama.feed_forward_length", "llama.attention.head_count",
          "llama.attention.layer_norm_rms_epsilon", "tokenizer.ggml.model", "tokenizer.ggml.pre",
          "tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
        expect_refused_after([&](GgufBuilder& gguf) { gguf.erase(key); }, {key, "is missing"});
    }
}

TEST(Gguf, values_out_of_range) {
    constexpr std::uint32_t kHuge = 0xFFFFFFFF;
    for (const char* key : {"llama.block_count", "llama.context_length", "llama.embedding_length",
                            "llama.feed_forward_length", "llama.attention.head_count",
                            "llama.attention.head_count_kv"}) {
        expect_key_refused(key, GgufBuilder::u32(0), "0 is outside of 1 to ");
        expect_key_refused(key, GgufBuilder::u32(kHuge), "4294967295 is outside of 1 to ");
        expect_key_refused(key, GgufBuilder::string_value("two"), "must be an integer");
        expect_key_refused(key, GgufBuilder::typed(10, raw(~std::uint64_t{0})), "is outside of");
    }
    const char* eps = "llama.attention.layer_norm_rms_epsilon";
    for (const float value : {kNan, kInfinity, 0.0F, -1e-5F})
        expect_refused_after([&](auto& gguf) { gguf.set(eps, GgufBuilder::f32(value)); },
                             {"norm epsilon", "is outside of"});
    expect_refused_after([&](auto& g) { g.set("llama.rope.freq_base", GgufBuilder::f32(kNan)); },
                         {"rope base", "is outside of"});
    expect_refused_after(
        [&](auto& g) { g.set("llama.attention.head_count_kv", GgufBuilder::u32(2)); },
        {"tensor blk.0.attn_k.weight", "is 32 x 64, the configuration says 64 x 64"});
    expect_key_refused("llama.attention.head_count", GgufBuilder::u32(3), "does not divide 64");
}

TEST(Gguf, what_is_not_computed_is_refused) {
    expect_key_refused("general.architecture", GgufBuilder::string_value("gpt\x1b[2J"),
                       R"('gpt\x1b[2J' is not supported)");
    for (const char* key : {"llama.expert_shared_count", "llama.expert_weights_scale",
                            "llama.expert_gating_func", "llama.leading_dense_block_count"})
        expect_key_refused(key, GgufBuilder::u32(1), "is not supported");
    expect_key_refused("llama.logit_scale", GgufBuilder::f32(2), "is not supported");
    expect_key_refused("llama.rope.scaling.type", GgufBuilder::string_value("longrope"),
                       "'longrope' is not supported");
    expect_key_refused("split.count", GgufBuilder::u32(2), "several GGUF files");
    expect_key_refused("tokenizer.ggml.model", GgufBuilder::string_value("bert"),
                       "'bert' is not supported");
    expect_key_refused("tokenizer.ggml.pre", GgufBuilder::string_value("new"),
                       "'new' is not supported");
}

TEST(Gguf, wrong_tokenizers) {
    expect_key_refused("tokenizer.ggml.bos_token_id", GgufBuilder::u32(275),
                       "token 275 is outside of the vocabulary");
    expect_key_refused("tokenizer.ggml.token_type", GgufBuilder::array(5, 1, raw(1)),
                       "has 1 values, the vocabulary has 275");
    expect_key_refused("tokenizer.ggml.merges",
                       GgufBuilder::array(8, 1, GgufBuilder::text("nospace")),
                       "'nospace' is not a pair of tokens");
    expect_key_refused("tokenizer.ggml.tokens", GgufBuilder::array(4, 1, raw(1)),
                       "must hold strings");
    expect_refused_after(
        [](GgufBuilder& gguf) {
            auto data = text::small_byte_bpe();
            add_token(data, "one more", text::TokenType::normal);
            add_gguf_tokenizer(gguf, data);
        },
        {"tokenizer", "has 276 tokens, the embedding has 275 rows"});
}

TEST(Gguf, wrong_tensors) {
    const std::string name = "blk.1.ffn_up.weight";
    const auto refused = [&](const std::function<void(GgufBuilder::Item&)>& change,
                             const std::string& reason) {
        expect_refused_after([&](GgufBuilder& gguf) { change(gguf.tensor(name)); },
                             {"tensor " + name, reason});
    };
    const std::uint64_t huge = std::uint64_t{1} << 63;
    refused([](auto& t) { t.dims = {}; }, "has 0 dimensions");
    refused([](auto& t) { t.dims.assign(5, 1); }, "has 5 dimensions");
    refused([](auto& t) { t.dims = {64, 96, 2}; }, "dimension 2 is 2");
    refused([](auto& t) { t.dims = {64, 0}; }, "dimension 1 is 0");
    refused([&](auto& t) { t.dims = {huge, huge}; }, "dimension 0 is 9223372036854775808");
    refused([](auto& t) { t.dims = {1U << 31U, 1}; }, "dimension 0 is 2147483648");
    refused([](auto& t) { t.dims = {0x7FFFFFFF, 0x7FFFFFFF}; }, "needs 18446744056529682436 bytes");
    refused([](auto& t) { t.dims = {64, 191}; }, "is 191 x 64, the configuration says 192 x 64");
    refused([](auto& t) { t.type = 99; }, "type 99 is unknown");
    refused([](auto& t) { t.type = 4; }, "type 4 is unknown");
    refused([](auto& t) { t.type = 16; }, "type IQ2_XXS is not supported");
    refused([](auto& t) { t.type = 12; }, "rows of 64 elements are no whole blocks of Q4_K");
    refused([](auto& t) { t.shift = 1; }, "is not aligned to 32");
    refused([](auto& t) { t.shift = std::uint64_t{1} << 40; }, "needs 49152 bytes at offset");
    refused([](auto& t) { t.shift = std::uint64_t(0) - 32; }, "overlaps tensor blk.1.ffn_gate");
    refused([](auto& t) { t.name += "x"; }, "is missing");
    expect_refused_after([](auto& g) { g.tensors.push_back(g.tensors.front()); },
                         {"tensor token_embd.weight", "is there twice"});
    expect_refused_after(
        [](auto& g) {
            g.tensors.push_back({"blk.7.attn_q.weight", {2}, 0, raw(0.0)});
        },
        {"tensor blk.7.attn_q.weight", "is not part of a model"});
    expect_refused_after(
        [](auto& g) {
            g.tensor("output_norm.weight").type = 8;
            g.tensor("output_norm.weight").data.assign(68, '\0');
        },
        {"tensor output_norm.weight", "must be a floating type"});
}

TEST(Gguf, weights_that_are_not_finite) {
    const std::string name = "blk.0.ffn_down.weight";  // 64 rows of 192
    for (const float value : {kNan, kInfinity, -kInfinity}) {
        expect_refused_after(
            [&](GgufBuilder& g) { g.tensor(name).data.replace(192 * 4 * 63, 4, raw(value)); },
            {"tensor " + name, "row 63 holds infinity or NaN"});
        expect_refused_after(
            [&](GgufBuilder& g) { g.tensor("output_norm.weight").data.replace(8, 4, raw(value)); },
            {"tensor output_norm.weight", "row 0 holds infinity or NaN"});
    }
    const auto as_type = [&](GgufBuilder& g, std::uint32_t type, std::size_t block_bytes,
                             std::size_t at, std::uint16_t bits) {
        g.tensor(name).type = type;
        g.tensor(name).data.assign(std::size_t{64} * 6 * block_bytes, '\0');
        g.tensor(name).data.replace(at, 2, raw(bits));
    };
    for (const std::uint16_t bits : {0x7C00, 0xFC00, 0x7E01}) {
        const std::vector<std::string> parts{"tensor " + name, "row 1 holds infinity or NaN"};
        // 192 columns are 6 blocks of 32: f16, then q8_0, then the minimum of q4_1.
        expect_refused_after([&](auto& g) { as_type(g, 1, 64, 384 + 10, bits); }, parts);
        expect_refused_after([&](auto& g) { as_type(g, 8, 34, 204 + 34, bits); }, parts);
        expect_refused_after([&](auto& g) { as_type(g, 3, 20, 120 + 22, bits); }, parts);
    }
    expect_refused_after([&](auto& g) { as_type(g, 30, 64, 384, 0x7F80); },
                         {"tensor " + name, "row 1 holds infinity or NaN"});
}

}  // namespace
}  // namespace etalon::weights

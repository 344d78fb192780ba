// SPDX-License-Identifier: Apache-2.0
// tokenizer.json, tokenizer.model and our own JSON: what is read, what is refused and how, and that
// damaged files end as an Error.
#include "text/tokenizer_file.h"

#include <bit>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <rapidcheck.h>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "small_tokenizers.h"
#include "text/tokenizer.h"

namespace etalon::text {
namespace {

constexpr const char* kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": true})";

std::string tokenizer_json(const std::string& pre_tokenizer, const std::string& model_extra = "",
                           const std::string& root_extra = "") {
    return R"({"added_tokens": [)"
           R"({"id": 4, "content": "<|im_end|>", "special": true, "normalized": false},)"
           R"({"id": 5, "content": "  ", "special": false}], )" +
           root_extra + R"("pre_tokenizer": )" + pre_tokenizer +
           R"(, "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "abab": 3}, )" +
           model_extra + R"("merges": ["a b", ["ab", "ab"]]}})";
}

template <typename Read>
void expect_refused(Read&& read, const std::string& part_of_message) {
    try {
        read();
        FAIL() << "not refused: " << part_of_message;
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid);
        EXPECT_NE(error.message().find(part_of_message), std::string::npos) << error.message();
        EXPECT_NE(error.message().find("file.x"), std::string::npos) << error.message();
    }
}

void expect_json_refused(const std::string& json, const std::string& part_of_message) {
    expect_refused([&] { read_tokenizer_json(json, "file.x"); }, part_of_message);
}

TEST(TokenizerJson, byte_level) {
    const auto data = read_tokenizer_json(tokenizer_json(kByteLevel), "file.x");
    EXPECT_EQ(data.kind, TokenizerKind::byte_bpe);
    EXPECT_EQ(data.pretokenizer, Pretokenizer::gpt2);
    EXPECT_EQ(data.tokens, (std::vector<std::string>{"a", "b", "ab", "abab", "<|im_end|>", "  "}));
    EXPECT_EQ(data.types[3], TokenType::normal);
    EXPECT_EQ(data.types[4], TokenType::control);
    EXPECT_EQ(data.types[5], TokenType::user_defined);
    EXPECT_EQ(data.merges.size(), 2U);
    EXPECT_EQ(data.end_of_turn, (std::vector<std::int32_t>{4}));
    const Tokenizer tokenizer(data);
    EXPECT_EQ(tokenizer.encode("ababab  a", {}), (std::vector<std::int32_t>{3, 2, 5, 0}));
}

TEST(TokenizerJson, config_and_post_processor) {
    const std::string post =
        R"("post_processor": {"type": "Sequence", "processors": [{"type": "ByteLevel"},)"
        R"({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_end|>",)"
        R"("type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]}, )";
    auto data = read_tokenizer_json(tokenizer_json(kByteLevel, "", post), "file.x");
    EXPECT_EQ(data.bos, 4);
    EXPECT_TRUE(data.add_bos);
    EXPECT_FALSE(data.add_eos);
    data = read_tokenizer_json(
        tokenizer_json(kByteLevel, "", post), "file.x",
        R"({"bos_token": null, "eos_token": {"content": "<|im_end|>"}, "pad_token": "a",)"
        R"("add_bos_token": false, "chat_template": [{"name": "tool_use", "template": "x"},)"
        R"({"name": "default", "template": "the template"}]})");
    EXPECT_EQ(data.eos, 4);
    EXPECT_EQ(data.padding, 0);
    EXPECT_FALSE(data.add_bos);
    EXPECT_EQ(data.chat_template, "the template");
}

TEST(TokenizerJson, pretokenizers) {
    const auto read = [](const std::string& pre, const std::string& root = "") {
        return read_tokenizer_json(tokenizer_json(pre, "", root), "file.x");
    };
    const std::string digits =
        R"({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, )";
    EXPECT_EQ(read(digits + kByteLevel + "]}").pretokenizer, Pretokenizer::smollm);
    const std::string split =
        R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern": {"Regex": )"
        R"("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|)"
        R"( ?[^\\s\\p{L}\\p{N}]+)"
        R"([\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"}, "behavior": "Isolated", "invert": false}, )"
        R"({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]})";
    const auto qwen2 = read(split, R"("normalizer": {"type": "NFC"}, )");
    EXPECT_EQ(qwen2.pretokenizer, Pretokenizer::qwen2);
    EXPECT_TRUE(qwen2.normalize_nfc);
}

TEST(TokenizerJson, converted_from_sentencepiece) {
    const std::string json =
        R"({"added_tokens": [{"id": 0, "content": "<unk>", "special": true},)"
        R"({"id": 1, "content": "<s>", "special": true}],)"
        R"("normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"},)"
        R"({"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},)"
        R"("pre_tokenizer": null,)"
        R"("model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>", "vocab": )"
        R"({"<unk>": 0, "<s>": 1, "▁": 2, "a": 3, "b": 4, "▁a": 5, "ab": 6, "▁ab": 7},)"
        R"("merges": ["a b", "▁ a", "▁a b", "▁ ab"]}})";
    const auto data = read_tokenizer_json(json, "file.x");
    EXPECT_EQ(data.kind, TokenizerKind::sentencepiece);
    EXPECT_TRUE(data.add_space_prefix);
    EXPECT_EQ(data.types[0], TokenType::unknown);
    EXPECT_EQ(data.types[1], TokenType::control);
    EXPECT_EQ(data.scores[6], 0.0F);
    EXPECT_EQ(data.scores[7], -2.0F);
    EXPECT_EQ(Tokenizer(data).encode("ab aab", {}), (std::vector<std::int32_t>{7, 5, 6}));
}

TEST(TokenizerJson, what_is_not_supported_is_refused) {
    expect_json_refused("{", "not valid JSON");
    expect_json_refused("[]", "must be an object");
    expect_json_refused("\xFF", "not valid JSON");
    expect_json_refused(tokenizer_json(R"({"type": "Whitespace"})"), "not supported");
    expect_json_refused(tokenizer_json(R"({"type": "ByteLevel"})"), "add_prefix_space");
    expect_json_refused(tokenizer_json("null"), "byte_fallback");
    expect_json_refused(tokenizer_json(kByteLevel, R"("end_of_word_suffix": "</w>", )"),
                        "end_of_word_suffix");
    expect_json_refused(tokenizer_json(kByteLevel, "", R"("normalizer": {"type": "NFKC"}, )"),
                        "normalizer");
    expect_json_refused(R"({"model": {"type": "Unigram"}})", "only BPE is");
    expect_json_refused(
        tokenizer_json(R"({"type": "Sequence", "pretokenizers": [{"type": "Split", "pattern":)"
                       R"({"Regex": "x+"}, "behavior": "Isolated"}, {"type": "ByteLevel",)"
                       R"("add_prefix_space": false, "use_regex": false}]})"),
        "not known: x+");
    const auto replaced = [](const std::string& from, const std::string& to) {
        std::string json = tokenizer_json(kByteLevel);
        return json.replace(json.find(from), from.size(), to);
    };
    expect_json_refused(replaced("\"ab\": 2", "\"ab\": 1"), "id 1 has two tokens");
    expect_json_refused(replaced("\"ab\": 2", "\"ab\": -1"), "must lie between");
    expect_json_refused(replaced("\"ab\": 2", "\"ab\": 18446744073709551615"), "must lie between");
    expect_json_refused(replaced("\"ab\": 2", "\"ab\": 2.5"), "must be a whole number");
    expect_json_refused(replaced("\"a b\"", "\"a b c\""), "merges[0]");
    expect_json_refused(replaced("\"id\": 4", "\"id\": 3"), "already is 'abab'");
    expect_json_refused(replaced("\"special\": false", "\"special\": false, \"lstrip\": true"),
                        "lstrip");
}

/// A protobuf message, written by hand.
class Proto {
  public:
    Proto& varint(int tag, std::uint64_t value) {
        key(tag, 0);
        number(value);
        return *this;
    }
    Proto& bytes(int tag, const std::string& value) {
        key(tag, 2);
        number(value.size());
        out_ += value;
        return *this;
    }
    Proto& binary32(int tag, float value) {
        key(tag, 5);
        const auto bits = std::bit_cast<std::uint32_t>(value);
        for (int shift = 0; shift < 32; shift += 8)
            out_.push_back(static_cast<char>(bits >> shift));
        return *this;
    }
    const std::string& str() const { return out_; }

  private:
    void key(int tag, int wire) { number(static_cast<std::uint64_t>(tag << 3 | wire)); }
    void number(std::uint64_t value) {
        for (; value >= 0x80; value >>= 7)
            out_.push_back(static_cast<char>(value | 0x80));
        out_.push_back(static_cast<char>(value));
    }
    std::string out_;
};

std::string piece(const std::string& text, float score, int type) {
    return Proto().bytes(1, text).binary32(2, score).varint(3, static_cast<unsigned>(type)).str();
}

std::string trainer_spec(std::uint64_t model_type = 2) {
    return Proto().varint(3, model_type).binary32(10, 0.9995F).varint(35, 0).str();
}

std::string normalizer_spec(bool dummy_prefix = true) {
    return Proto().bytes(1, "identity").bytes(2, "").varint(3, dummy_prefix).varint(4, 0).str();
}

std::string model_proto(const std::string& trainer = trainer_spec(),
                        const std::string& normalizer = normalizer_spec()) {
    Proto model;
    model.bytes(1, piece("<unk>", 0, 2)).bytes(1, piece("<s>", 0, 3)).bytes(1, piece("</s>", 0, 3));
    model.bytes(1, piece("ab", -1, 1)).bytes(1, piece("a", -2, 1)).bytes(1, piece("b", -3, 1));
    model.bytes(1, Proto().bytes(1, "c").binary32(2, -4).str());  // the type defaults to normal
    return model.bytes(2, trainer).bytes(3, normalizer).str();
}

TokenizerData read_model(const std::string& proto) {
    return read_tokenizer_model(std::as_bytes(std::span(proto)), "file.x");
}

TEST(TokenizerModel, reads_pieces_and_specs) {
    const auto data = read_model(model_proto());
    EXPECT_EQ(data.kind, TokenizerKind::sentencepiece);
    EXPECT_EQ(data.tokens, (std::vector<std::string>{"<unk>", "<s>", "</s>", "ab", "a", "b", "c"}));
    EXPECT_EQ(data.scores[3], -1.0F);
    EXPECT_EQ(data.types[6], TokenType::normal);
    EXPECT_EQ(data.unknown, 0);
    EXPECT_EQ(data.bos, 1);
    EXPECT_EQ(data.eos, 2);
    EXPECT_EQ(data.padding, kNoToken);
    EXPECT_TRUE(data.add_bos);
    EXPECT_TRUE(data.add_space_prefix);
    EXPECT_FALSE(read_model(model_proto(trainer_spec(), normalizer_spec(false))).add_space_prefix);
}

TEST(TokenizerModel, what_is_not_supported_is_refused) {
    const auto refused = [](const std::string& proto, const std::string& part) {
        expect_refused([&] { read_model(proto); }, part);
    };
    refused("", "there are none");
    refused(model_proto(trainer_spec(1)), "unigram");
    refused(model_proto(trainer_spec(4)), "model_type: 4");
    refused(model_proto(trainer_spec() + Proto().varint(24, 1).str()), "whitespace_as_suffix");
    refused(model_proto(trainer_spec() + Proto().varint(35, 1).str()), "type byte");
    refused(model_proto(trainer_spec(), normalizer_spec() + Proto().bytes(2, "map").str()),
            "precompiled_charsmap");
    refused(model_proto(trainer_spec(), Proto().varint(3, 1).str()), "remove_extra_whitespaces");
    refused(model_proto() + Proto().bytes(1, piece("x", 0, 9)).str(), "unknown type 9");
    refused(model_proto() + Proto().bytes(1, piece("", 0, 1)).str(), "pieces[7]: has no text");
    refused(model_proto() + Proto().varint(1, 5).str(), "wrong type");
    refused(model_proto() + "\x0A\x7F", "cut off");
    refused(model_proto() + "\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01", "cut off");
    refused(model_proto() + std::string(11, '\xFF'), "64 bits");
    refused(model_proto() + "\x0B", "no protobuf");
    const float nan = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THROW(read_model(model_proto() + Proto().bytes(1, piece("x", nan, 1)).str()), Error);
}

TEST(TokenizerModel, every_truncation_is_an_error_or_a_model) {
    const auto proto = model_proto();
    std::size_t refused = 0;
    for (std::size_t size = 0; size < proto.size(); ++size) {
        try {
            const Tokenizer tokenizer(read_model(proto.substr(0, size)));
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid);
            ++refused;
        }
    }
    EXPECT_EQ(refused, proto.size());  // the specifications come last, and are needed
}

TEST(TokenizerJsonOfOurFiles, comes_back_exactly) {
    TokenizerData pieces = small_sentencepiece();
    pieces.scores[300 % pieces.scores.size()] = 0.1F;
    pieces.scores[20] = std::numeric_limits<float>::denorm_min();
    pieces.scores[21] = -std::numeric_limits<float>::max();
    TokenizerData bytes = small_byte_bpe(Pretokenizer::tekken);
    bytes.chat_template = "{{ \"\\n\" }}\u00e9\n\t\x01";
    bytes.end_of_turn = {3, 1};
    bytes.ignore_merges = bytes.normalize_nfc = bytes.add_eos = true;
    bytes.padding = 7;
    for (const auto& data : {pieces, bytes}) {
        const auto json = tokenizer_to_json(data);
        EXPECT_TRUE(tokenizer_from_json(json, "file.x") == data);
        EXPECT_EQ(tokenizer_to_json(tokenizer_from_json(json, "file.x")), json);
    }
}

TEST(TokenizerJsonOfOurFiles, random_scores_come_back) {
    EXPECT_TRUE(rc::check("scores are exact", [](std::uint32_t bits) {
        const auto score = std::bit_cast<float>(bits);
        RC_PRE(score - score == 0.0F);  // finite
        TokenizerData data = small_sentencepiece();
        data.scores[9] = score;
        const auto back = tokenizer_from_json(tokenizer_to_json(data), "file.x").scores[9];
        RC_ASSERT(std::bit_cast<std::uint32_t>(back) == bits);
    }));
}

TEST(TokenizerJsonOfOurFiles, what_cannot_be_stored_is_refused) {
    TokenizerData data = small_byte_bpe();
    data.tokens[3] = "\xFF";
    EXPECT_THROW(tokenizer_to_json(data), Error);
    data = small_byte_bpe();
    data.chat_template = "\xC3";
    EXPECT_THROW(tokenizer_to_json(data), Error);
}

TEST(TokenizerJsonOfOurFiles, damaged_text_is_refused) {
    const auto json = tokenizer_to_json(small_byte_bpe());
    const auto refused = [](const std::string& text, const std::string& part) {
        expect_refused([&] { tokenizer_from_json(text, "file.x"); }, part);
    };
    const auto replaced = [&json](const std::string& from, const std::string& to) {
        std::string text = json;
        return text.replace(text.find(from), from.size(), to);
    };
    refused(json.substr(0, json.size() / 2), "not valid JSON");
    refused(replaced("\"version\":1", "\"version\":2"), "version");
    refused(replaced("\"byte_bpe\"", "\"unigram\""), "kind");
    refused(replaced("\"gpt2\"", "\"gpt3\""), "pretokenizer");
    refused(replaced("\"bos\":266", "\"bos\":\"x\""), "bos");
    refused(replaced("\"types\":[1", "\"types\":[7"), "types[0]");
    refused(replaced("\"scores\":[]", "\"scores\":[1e39]"), "scores[0]");
    refused(replaced("\"merges\":[\"h\",", "\"merges\":["), "even number");
    EXPECT_THROW(tokenizer_from_json(replaced("\"bos\":266", "\"bos\":9999"), "file.x"), Error);
    EXPECT_THROW(tokenizer_from_json(std::string(100000, '['), "file.x"), Error);
}

TEST(TokenizerJsonOfOurFiles, a_flipped_bit_is_an_error_or_a_tokenizer) {
    const auto json = tokenizer_to_json(small_sentencepiece());
    EXPECT_TRUE(rc::check("bit flips", [&json](std::uint32_t where) {
        std::string damaged = json;
        damaged[where / 8 % json.size()] ^= static_cast<char>(1 << where % 8);
        try {
            const Tokenizer tokenizer(tokenizer_from_json(damaged, "file.x"));
            tokenizer.encode("ab <x> c", {});
        } catch (const Error& error) {
            RC_ASSERT(error.code() == ExitCode::invalid);
        }
    }));
}

TEST(Names, come_back) {
    for (const auto p : {Pretokenizer::gpt2, Pretokenizer::llama3, Pretokenizer::qwen2,
                         Pretokenizer::smollm, Pretokenizer::tekken}) {
        EXPECT_EQ(pretokenizer_from_name(pretokenizer_name(p)), p);
    }
    for (const auto kind : {TokenizerKind::byte_bpe, TokenizerKind::sentencepiece}) {
        EXPECT_EQ(tokenizer_kind_from_name(tokenizer_kind_name(kind)), kind);
    }
    EXPECT_EQ(pretokenizer_from_name("gpt-2"), std::nullopt);
    EXPECT_EQ(tokenizer_kind_from_name(""), std::nullopt);
}

TEST(GgufPretokenizers, by_name) {
    EXPECT_EQ(pretokenizer_from_gguf("smollm")->pretokenizer, Pretokenizer::smollm);
    EXPECT_EQ(pretokenizer_from_gguf("gpt-2")->pretokenizer, Pretokenizer::gpt2);
    EXPECT_TRUE(pretokenizer_from_gguf("llama-bpe")->ignore_merges);
    EXPECT_TRUE(pretokenizer_from_gguf("qwen2")->normalize_nfc);
    EXPECT_TRUE(pretokenizer_from_gguf("tekken")->add_bos);
    EXPECT_FALSE(pretokenizer_from_gguf("deepseek-llm").has_value());
}

}  // namespace
}  // namespace etalon::text

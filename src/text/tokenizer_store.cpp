// SPDX-License-Identifier: Apache-2.0
// Names of pre-tokenizers and kinds, and TokenizerData as JSON for Etalon's own model files.
#include <algorithm>
#include <array>

#include "base/error.h"
#include "text/internal/json_fields.h"
#include "text/internal/limits.h"
#include "text/internal/unicode.h"
#include "text/internal/vocabulary.h"
#include "text/tokenizer_file.h"

namespace etalon::text {
namespace {

/// Raised when a field of the JSON changes its meaning.
constexpr std::int64_t kVersion = 1;

template <typename Value>
struct Named {
    std::string_view name;
    Value value;
};

constexpr Named<Pretokenizer> kPretokenizers[] = {
    {"gpt2", Pretokenizer::gpt2},     {"llama3", Pretokenizer::llama3},
    {"qwen2", Pretokenizer::qwen2},   {"smollm", Pretokenizer::smollm},
    {"tekken", Pretokenizer::tekken},
};

constexpr Named<TokenizerKind> kKinds[] = {
    {"byte_bpe", TokenizerKind::byte_bpe},
    {"sentencepiece", TokenizerKind::sentencepiece},
};

/// Values of tokenizer.ggml.pre. Only those whose expression is one of ours; a value that is not
/// here must be refused, because a wrong split gives wrong tokens without an error.
constexpr Named<GgufPretokenizer> kGgufNames[] = {
    {"default", {.pretokenizer = Pretokenizer::gpt2}},
    {"gpt-2", {.pretokenizer = Pretokenizer::gpt2}},
    {"phi-2", {.pretokenizer = Pretokenizer::gpt2}},
    {"llama3", {Pretokenizer::llama3, true, false, true}},
    {"llama-v3", {Pretokenizer::llama3, true, false, true}},
    {"llama-bpe", {Pretokenizer::llama3, true, false, true}},
    {"qwen2", {Pretokenizer::qwen2, false, true, false}},
    {"smollm", {.pretokenizer = Pretokenizer::smollm}},
    {"tekken", {Pretokenizer::tekken, true, false, true}},
};

constexpr std::string_view kEndOfTurn[] = {
    "<|im_end|>",      "<|eot_id|>",    "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|end|>",
    "<|end_of_turn|>", "<end_of_turn>", "</s>",
};

template <typename Value, std::size_t N>
std::string_view name_of(const Named<Value> (&table)[N], Value value) {
    for (const auto& entry : table) {
        if (entry.value == value) return entry.name;
    }
    ETALON_ASSERT(false);
    return "";
}

template <typename Value, std::size_t N>
std::optional<Value> value_of(const Named<Value> (&table)[N], std::string_view name) {
    for (const auto& entry : table) {
        if (entry.name == name) return entry.value;
    }
    return std::nullopt;
}

void check_storable(const TokenizerData& data) {
    const auto check = [](const std::string& text, const std::string& field) {
        if (!is_utf8(text)) {
            throw Error(ExitCode::invalid,
                        "tokenizer " + field + ": '" + printable(text, 40) + "' is not UTF-8");
        }
    };
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        check(data.tokens[i], "token " + std::to_string(i));
    }
    for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
        check(data.merges[rank].first, "merge " + std::to_string(rank));
        check(data.merges[rank].second, "merge " + std::to_string(rank));
    }
    check(data.chat_template, "chat template");
}

std::int32_t id_at(const JsonField& field) {
    return static_cast<std::int32_t>(
        field.integer(kNoToken, static_cast<std::int64_t>(kVocabularyMax) - 1));
}

void read_arrays(const JsonField& root, TokenizerData& data) {
    const auto tokens = root["tokens"];
    const auto types = root["types"];
    const auto scores = root["scores"];
    const auto merges = root["merges"];
    const auto ends = root["end_of_turn"];
    if (tokens.size() > kVocabularyMax) tokens.refuse("too many tokens");
    if (merges.size() % 2 != 0) merges.refuse("must have an even number of tokens");
    for (std::size_t i = 0; i < tokens.size(); ++i)
        data.tokens.push_back(tokens.at(i).string());
    for (std::size_t i = 0; i < types.size(); ++i) {
        data.types.push_back(static_cast<TokenType>(types.at(i).integer(1, 6)));
    }
    for (std::size_t i = 0; i < scores.size(); ++i)
        data.scores.push_back(scores.at(i).binary32());
    for (std::size_t i = 0; i < merges.size(); i += 2) {
        data.merges.emplace_back(merges.at(i).string(), merges.at(i + 1).string());
    }
    for (std::size_t i = 0; i < ends.size(); ++i)
        data.end_of_turn.push_back(id_at(ends.at(i)));
}

}  // namespace

std::optional<GgufPretokenizer> pretokenizer_from_gguf(std::string_view pre) {
    for (const auto& entry : kGgufNames) {
        if (entry.name == pre) return entry.value;
    }
    return std::nullopt;
}

std::vector<std::int32_t> known_end_of_turn(const TokenizerData& data) {
    std::vector<std::int32_t> ids;
    const std::size_t count = std::min(data.tokens.size(), data.types.size());
    for (std::size_t i = 0; i < count; ++i) {
        const bool known = data.types[i] == TokenType::control &&
                           std::find(std::begin(kEndOfTurn), std::end(kEndOfTurn),
                                     data.tokens[i]) != std::end(kEndOfTurn);
        if (known) ids.push_back(static_cast<std::int32_t>(i));
    }
    return ids;
}

std::string_view pretokenizer_name(Pretokenizer pretokenizer) {
    return name_of(kPretokenizers, pretokenizer);
}

std::optional<Pretokenizer> pretokenizer_from_name(std::string_view name) {
    return value_of(kPretokenizers, name);
}

std::string_view tokenizer_kind_name(TokenizerKind kind) {
    return name_of(kKinds, kind);
}

std::optional<TokenizerKind> tokenizer_kind_from_name(std::string_view name) {
    return value_of(kKinds, name);
}

std::string tokenizer_to_json(const TokenizerData& data) {
    check_tokenizer_data(data);
    check_storable(data);
    Json json;  // members are written in the order of their names
    json["version"] = kVersion;
    json["kind"] = tokenizer_kind_name(data.kind);
    json["pretokenizer"] = pretokenizer_name(data.pretokenizer);
    json["tokens"] = data.tokens;
    auto& types = json["types"] = Json::array();
    for (const auto type : data.types)
        types.push_back(static_cast<int>(type));
    json["scores"] = data.scores;
    auto& merges = json["merges"] = Json::array();  // left, right, left, right, ...
    for (const auto& [left, right] : data.merges) {
        merges.push_back(left);
        merges.push_back(right);
    }
    json["bos"] = data.bos;
    json["eos"] = data.eos;
    json["unknown"] = data.unknown;
    json["padding"] = data.padding;
    json["end_of_turn"] = data.end_of_turn;
    json["add_bos"] = data.add_bos;
    json["add_eos"] = data.add_eos;
    json["add_space_prefix"] = data.add_space_prefix;
    json["normalize_nfc"] = data.normalize_nfc;
    json["ignore_merges"] = data.ignore_merges;
    json["chat_template"] = data.chat_template;
    return json.dump();
}

TokenizerData tokenizer_from_json(std::string_view json, const std::string& file) {
    const Json document = parse_json(json, file);
    const JsonField root(document, file, "tokenizer");
    const auto version = root["version"].integer(1, 1 << 20);
    if (version != kVersion) {
        root["version"].refuse(std::to_string(version) + " is not known, " +
                               std::to_string(kVersion) + " is");
    }
    TokenizerData data;
    const auto kind = tokenizer_kind_from_name(root["kind"].string());
    const auto pretokenizer = pretokenizer_from_name(root["pretokenizer"].string());
    if (!kind) root["kind"].refuse("is not known");
    if (!pretokenizer) root["pretokenizer"].refuse("is not known");
    data.kind = *kind;
    data.pretokenizer = *pretokenizer;
    read_arrays(root, data);
    data.bos = id_at(root["bos"]);
    data.eos = id_at(root["eos"]);
    data.unknown = id_at(root["unknown"]);
    data.padding = id_at(root["padding"]);
    data.add_bos = root["add_bos"].boolean();
    data.add_eos = root["add_eos"].boolean();
    data.add_space_prefix = root["add_space_prefix"].boolean();
    data.normalize_nfc = root["normalize_nfc"].boolean();
    data.ignore_merges = root["ignore_merges"].boolean();
    data.chat_template = root["chat_template"].string();
    check_tokenizer_data(data, file);
    return data;
}

}  // namespace etalon::text

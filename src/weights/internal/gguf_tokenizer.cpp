// SPDX-License-Identifier: Apache-2.0
// The tokenizer in the metadata of a GGUF file.
#include <algorithm>
#include <array>
#include <fmt/format.h>

#include "base/error.h"
#include "text/tokenizer_file.h"
#include "weights/internal/gguf_fields.h"
#include "weights/model_config.h"

namespace etalon::weights {

namespace {

using text::TokenizerData;
using text::TokenizerKind;
using text::TokenType;

/// Merges a vocabulary may have; converted ones hold all splits of each token.
constexpr std::uint64_t kMergesMax = 1 << 23;

void read_tokens(const GgufFields& fields, TokenizerData& data) {
    constexpr std::string_view kTokens = "tokenizer.ggml.tokens";
    const GgufValue* tokens = fields.strings(kTokens);
    if (tokens == nullptr || tokens->count == 0) fields.fail(kTokens, "is missing");
    if (tokens->count > static_cast<std::uint64_t>(kVocabMax)) {
        fields.fail(kTokens,
                    fmt::format("{} tokens, at most {} are supported", tokens->count, kVocabMax));
    }
    data.tokens.assign(tokens->strings.begin(), tokens->strings.end());
    data.types.assign(data.tokens.size(), TokenType::normal);
    constexpr std::string_view kTypes = "tokenizer.ggml.token_type";
    const GgufValue* types = fields.numbers(kTypes, tokens->count, false);
    for (std::size_t i = 0; types != nullptr && i < data.types.size(); ++i) {
        const std::int64_t type = types->integer_at(i);
        if (type < 0 || type > 6) fields.fail(kTypes, fmt::format("type {} is unknown", type));
        if (type != 0) data.types[i] = static_cast<TokenType>(type);  // 0: undefined
    }
}

void read_byte_bpe(const GgufFields& fields, TokenizerData& data) {
    constexpr std::string_view kPre = "tokenizer.ggml.pre";
    const std::string pre = fields.string(kPre, std::nullopt);
    const auto known = text::pretokenizer_from_gguf(pre);
    if (!known) fields.fail(kPre, "'" + printable(pre, 40) + "' is not supported");
    data.kind = TokenizerKind::byte_bpe;
    data.pretokenizer = known->pretokenizer;
    data.ignore_merges = known->ignore_merges;
    data.normalize_nfc = known->normalize_nfc;
    data.add_bos = fields.boolean("tokenizer.ggml.add_bos_token", known->add_bos);
    constexpr std::string_view kMerges = "tokenizer.ggml.merges";
    const GgufValue* merges = fields.strings(kMerges);
    if (merges == nullptr) fields.fail(kMerges, "is missing");
    if (merges->count > kMergesMax) fields.fail(kMerges, "has too many entries");
    data.merges.reserve(merges->strings.size());
    for (const std::string_view merge : merges->strings) {
        const std::size_t space = merge.find(' ', 1);  // the left part has at least one character
        if (space == std::string_view::npos || space + 1 == merge.size()) {
            fields.fail(kMerges, "'" + printable(merge, 40) + "' is not a pair of tokens");
        }
        data.merges.emplace_back(merge.substr(0, space), merge.substr(space + 1));
    }
}

void read_sentencepiece(const GgufFields& fields, TokenizerData& data) {
    constexpr std::string_view kScores = "tokenizer.ggml.scores";
    data.kind = TokenizerKind::sentencepiece;
    data.add_bos = fields.boolean("tokenizer.ggml.add_bos_token", true);
    data.add_space_prefix = fields.boolean("tokenizer.ggml.add_space_prefix", true);
    const GgufValue* scores = fields.numbers(kScores, data.tokens.size(), true);
    if (scores == nullptr) fields.fail(kScores, "is missing");
    for (std::size_t i = 0; i < data.tokens.size(); ++i)
        data.scores.push_back(static_cast<float>(scores->float_at(i)));
}

/// Keys that are missing, and 2^32 - 1, say that there is no such token.
std::int32_t token_id(const GgufFields& fields, std::string_view key, const TokenizerData& data) {
    constexpr std::int64_t kNone = 0xFFFFFFFF;
    const std::int64_t id = fields.integer(key, kNone, 0, kNone);
    if (id == kNone) return text::kNoToken;
    if (id >= static_cast<std::int64_t>(data.tokens.size())) {
        fields.fail(key, fmt::format("token {} is outside of the vocabulary", id));
    }
    return static_cast<std::int32_t>(id);
}

void read_special_tokens(const GgufFields& fields, TokenizerData& data) {
    data.bos = token_id(fields, "tokenizer.ggml.bos_token_id", data);
    data.eos = token_id(fields, "tokenizer.ggml.eos_token_id", data);
    data.unknown = token_id(fields, "tokenizer.ggml.unknown_token_id", data);
    data.padding = token_id(fields, "tokenizer.ggml.padding_token_id", data);
    data.end_of_turn = text::known_end_of_turn(data);
    constexpr std::array<std::string_view, 2> kEnds{"tokenizer.ggml.eot_token_id",
                                                    "tokenizer.ggml.eom_token_id"};
    for (const std::string_view key : kEnds) {
        const std::int32_t id = token_id(fields, key, data);
        if (id != text::kNoToken) data.end_of_turn.push_back(id);
    }
    std::sort(data.end_of_turn.begin(), data.end_of_turn.end());
    data.end_of_turn.erase(std::unique(data.end_of_turn.begin(), data.end_of_turn.end()),
                           data.end_of_turn.end());
    if (data.bos == text::kNoToken) data.add_bos = false;
    data.add_eos = fields.boolean("tokenizer.ggml.add_eos_token", false);
}

}  // namespace

TokenizerData read_gguf_tokenizer(const GgufFields& fields) {
    constexpr std::string_view kModel = "tokenizer.ggml.model";
    TokenizerData data;
    const std::string model = fields.string(kModel, std::nullopt);
    read_tokens(fields, data);
    if (model == "gpt2") {
        read_byte_bpe(fields, data);
    } else if (model == "llama") {
        read_sentencepiece(fields, data);
    } else {
        fields.fail(kModel, "'" + printable(model, 40) + "' is not supported");
    }
    read_special_tokens(fields, data);
    data.chat_template = fields.string("tokenizer.chat_template", "");
    return data;
}

}  // namespace etalon::weights

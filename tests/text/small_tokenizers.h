// SPDX-License-Identifier: Apache-2.0
// Small vocabularies that the tests of this folder share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/internal/vocabulary.h"
#include "text/tokenizer_data.h"

namespace etalon::text {

inline std::int32_t add_token(TokenizerData& data, const std::string& token, TokenType type,
                              float score = 0) {
    data.tokens.push_back(token);
    data.types.push_back(type);
    if (data.kind == TokenizerKind::sentencepiece) data.scores.push_back(score);
    return static_cast<std::int32_t>(data.tokens.size() - 1);
}

inline void add_merge(TokenizerData& data, const std::string& left, const std::string& right) {
    data.merges.emplace_back(left, right);
    for (const auto& token : data.tokens) {
        if (token == left + right) return;
    }
    add_token(data, left + right, TokenType::normal);
}

/// Ids 0 to 255 are the bytes, 256 and on what the merges make (so rank = id - 256), then added and
/// control tokens. A space is "Ġ" in the byte alphabet.
inline TokenizerData small_byte_bpe(Pretokenizer pretokenizer = Pretokenizer::gpt2) {
    TokenizerData data;
    data.pretokenizer = pretokenizer;
    for (const auto& letter : byte_alphabet())
        add_token(data, letter, TokenType::normal);
    add_merge(data, "h", "e");     // 256
    add_merge(data, "l", "l");     // 257
    add_merge(data, "he", "ll");   // 258
    add_merge(data, "hell", "o");  // 259
    add_merge(data, "A", "A");     // 260
    add_merge(data, "AA", "A");    // 261: a tie of positions decides which A is left over
    add_merge(data, "AA", "AA");   // 262
    add_merge(data, "Ġ", "he");    // 263
    add_merge(data, "Ġ", "Ġ");     // 264
    add_merge(data, "Ã", "©");     // 265: the two bytes of U+00E9
    for (const char* token :
         {"<|begin_of_text|>", "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]",
          "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}) {
        add_token(data, token, TokenType::control);
    }
    add_token(data, "  <tab>", TokenType::user_defined);
    data.bos = 266;
    data.eos = 268;
    return data;
}

inline constexpr std::int32_t kSmallHello = 259;
inline constexpr std::int32_t kSmallBos = 266;
inline constexpr std::int32_t kSmallImStart = 267;
inline constexpr std::int32_t kSmallImEnd = 268;
inline constexpr std::int32_t kSmallTab = 274;

/// <unk> 0, <s> 1, </s> 2, bytes 3 to 258, then pieces by falling score.
inline TokenizerData small_sentencepiece(bool byte_fallback = true) {
    TokenizerData data;
    data.kind = TokenizerKind::sentencepiece;
    data.add_space_prefix = true;
    data.add_bos = true;
    data.unknown = add_token(data, "<unk>", TokenType::unknown);
    data.bos = add_token(data, "<s>", TokenType::control);
    data.eos = add_token(data, "</s>", TokenType::control);
    constexpr std::string_view kDigits = "0123456789ABCDEF";
    for (std::size_t byte = 0; byte_fallback && byte < 256; ++byte) {
        add_token(data, std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">",
                  TokenType::byte);
    }
    float score = 0;
    for (const char* piece : {"ab", "▁a", "bc", "abc", "aa", "▁▁", "▁", "a", "b", "c", "é"}) {
        add_token(data, piece, TokenType::normal, score);
        score -= 1;
    }
    add_token(data, "<x>", TokenType::user_defined);
    add_token(data, "<x>y", TokenType::user_defined);
    return data;
}

/// The texts of tokens, to read expectations: "he|ll|o".
inline std::string shown(const TokenizerData& data, const std::vector<std::int32_t>& ids) {
    std::string out;
    for (const auto id : ids) {
        if (!out.empty()) out += "|";
        out += data.tokens[static_cast<std::size_t>(id)];
    }
    return out;
}

}  // namespace etalon::text

// SPDX-License-Identifier: Apache-2.0
// What a tokenizer is made of, whichever file it came from. weights/ fills it from GGUF metadata
// and from Etalon's own files; text/ fills it from tokenizer.json and tokenizer.model.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace etalon::text {

enum class TokenizerKind : std::uint8_t {
    byte_bpe,  ///< byte-level BPE (GPT-2 and descendants); tokens are in the GPT-2 byte alphabet
    sentencepiece,  ///< SentencePiece BPE with byte fallback; tokens carry U+2581 for a space
};

enum class Pretokenizer : std::uint8_t { gpt2, llama3, qwen2, smollm, tekken };

/// Values are those of GGUF's tokenizer.ggml.token_type.
enum class TokenType : std::uint8_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6,
};

inline constexpr std::int32_t kNoToken = -1;

struct TokenizerData {
    TokenizerKind kind = TokenizerKind::byte_bpe;
    Pretokenizer pretokenizer = Pretokenizer::gpt2;
    std::vector<std::string> tokens;  ///< [vocab_size]
    std::vector<TokenType> types;     ///< [vocab_size]
    std::vector<float> scores;        ///< [vocab_size] for sentencepiece, else empty
    std::vector<std::pair<std::string, std::string>> merges;  ///< byte_bpe: by ascending rank
    std::int32_t bos = kNoToken;
    std::int32_t eos = kNoToken;
    std::int32_t unknown = kNoToken;
    std::int32_t padding = kNoToken;
    std::vector<std::int32_t> end_of_turn;  ///< further tokens that end an answer
    bool add_bos = false;
    bool add_eos = false;
    bool add_space_prefix = false;  ///< sentencepiece: a space is put before the text
    bool normalize_nfc = false;     ///< byte_bpe: text is brought to Unicode NFC first (Qwen-2)
    bool ignore_merges = false;     ///< byte_bpe: a word that is a token needs no merges (Llama-3)
    std::string chat_template;      ///< Jinja source as the file holds it; empty when it has none

    bool operator==(const TokenizerData&) const = default;
};

}  // namespace etalon::text

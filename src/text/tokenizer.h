// SPDX-License-Identifier: Apache-2.0
// Text to token ids and back. Linear (times a logarithm) in the length of any text.
//   const Tokenizer tokenizer(data);
//   auto ids = tokenizer.encode("Hello", {.special = false});
//   std::string text = tokenizer.decode(ids);
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace etalon::text {

struct EncodeOptions {
    bool special = false;  ///< texts of control tokens in the input become those tokens. Never set
                           ///< for text from a person: "<|im_end|>" typed in a chat stays text.
    bool add_bos = true;   ///< put the beginning token first where the model wants one
    bool add_prefix_space = true;  ///< sentencepiece: as the model's data says; false: never
};

class Tokenizer {
  public:
    /// Errors: invalid (duplicate or inconsistent vocabulary, merges of unknown tokens, ids outside
    /// the vocabulary, more than kVocabularyMax tokens).
    explicit Tokenizer(TokenizerData data);
    ~Tokenizer();
    Tokenizer(Tokenizer&&) noexcept;
    Tokenizer& operator=(Tokenizer&&) noexcept;

    const TokenizerData& data() const noexcept;
    std::int32_t vocab_size() const noexcept;

    /// Bytes that are not UTF-8 are encoded as the bytes they are.
    std::vector<std::int32_t> encode(std::string_view text, const EncodeOptions& options) const;

    /// The bytes that one token stands for. Control tokens give "" unless `special`.
    std::string token_bytes(std::int32_t id, bool special = false) const;
    std::string decode(std::span<const std::int32_t> ids, bool special = false) const;

    bool ends_generation(std::int32_t id) const noexcept;  ///< eos or an end-of-turn token

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

/// Joins the bytes of successive tokens and hands out whole UTF-8 characters only; bytes that can
/// never become a character come out as U+FFFD.
class StreamDecoder {
  public:
    explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(&tokenizer) {}
    std::string push(std::int32_t id);  ///< what can be shown now, maybe ""
    std::string finish();               ///< what is left

  private:
    std::string take(bool last);
    const Tokenizer* tokenizer_;
    std::string pending_;
    bool first_ = true;
};

}  // namespace etalon::text

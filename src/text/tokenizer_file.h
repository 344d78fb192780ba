// SPDX-License-Identifier: Apache-2.0
// Tokenizers in files: tokenizer.json, tokenizer.model, the names that GGUF uses, and the JSON text
// that Etalon's own model files carry.
//   TokenizerData data = read_tokenizer_json(read_file(path, kTokenizerFileBytesMax),
//   path.string());
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace etalon::text {

/// Largest tokenizer file that is read: the largest known (262,144 tokens) has 34 MB.
inline constexpr std::size_t kTokenizerFileBytesMax = std::size_t{128} << 20;

/// A Hugging Face tokenizer.json: byte-level BPE with a pre-tokenizer that is known, or BPE with
/// byte fallback that was converted from SentencePiece. `config` is the text of the
/// tokenizer_config.json beside it, "" when there is none: chat template, which tokens are first
/// and last. Errors: invalid, with `file`, field and reason.
TokenizerData read_tokenizer_json(std::string_view json, const std::string& file,
                                  std::string_view config = {});

/// What a tokenizer_config.json adds to `data`, as above. Errors: invalid.
void apply_tokenizer_config(std::string_view config, const std::string& file, TokenizerData& data);

/// A SentencePiece model (protobuf) of type BPE. Errors: invalid (also for the unigram type).
TokenizerData read_tokenizer_model(std::span<const std::byte> proto, const std::string& file);

/// What a value of tokenizer.ggml.pre stands for. GGUF has no keys for the last three.
struct GgufPretokenizer {
    Pretokenizer pretokenizer = Pretokenizer::gpt2;
    bool ignore_merges = false;
    bool normalize_nfc = false;
    bool add_bos = false;  ///< where the file has no tokenizer.ggml.add_bos_token
};
std::optional<GgufPretokenizer> pretokenizer_from_gguf(std::string_view pre);

/// Control tokens that are known by name to end a turn ("<|im_end|>", "<|eot_id|>", ...), for files
/// that name only one end token. The ids ascend.
std::vector<std::int32_t> known_end_of_turn(const TokenizerData& data);

std::string_view pretokenizer_name(Pretokenizer pretokenizer);
std::optional<Pretokenizer> pretokenizer_from_name(std::string_view name);
std::string_view tokenizer_kind_name(TokenizerKind kind);
std::optional<TokenizerKind> tokenizer_kind_from_name(std::string_view name);

/// All of `data` as one line of JSON; tokenizer_from_json gives exactly `data` back. The text of
/// equal data is equal, byte for byte. Errors: invalid (a string is not UTF-8, a score not finite).
std::string tokenizer_to_json(const TokenizerData& data);
TokenizerData tokenizer_from_json(std::string_view json, const std::string& file);

}  // namespace etalon::text

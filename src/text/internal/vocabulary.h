// SPDX-License-Identifier: Apache-2.0
// The vocabulary of a tokenizer: checked data, ids by text, bytes by id.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_data.h"

namespace etalon::text {

/// U+2581, which stands for a space in the tokens of SentencePiece.
inline constexpr std::string_view kSpaceSymbol = "\xE2\x96\x81";

/// The GPT-2 byte alphabet: each byte as one printable character, UTF-8.
const std::array<std::string, 256>& byte_alphabet();

/// The bytes that a token in the byte alphabet stands for; its own text when it holds a character
/// that is not in the alphabet, as the package `tokenizers` does.
std::string bytes_from_alphabet(std::string_view token);

/// The byte of a token "<0x41>", or -1.
int byte_of_token(std::string_view token) noexcept;

/// Throws Error (invalid) unless `data` obeys the limits and is consistent in itself: sizes, types,
/// finite scores, ids inside the vocabulary.
void check_tokenizer_data(const TokenizerData& data);
/// The same for data that were read from `file`, which the message then names.
void check_tokenizer_data(const TokenizerData& data, const std::string& file);

/// Ids by text. Tokens of type unused may repeat a text: then the other one counts. The views point
/// into `data.tokens`. Errors: invalid (a text occurs twice).
std::unordered_map<std::string_view, std::int32_t> ids_by_text(const TokenizerData& data);

}  // namespace etalon::text

// SPDX-License-Identifier: Apache-2.0
// Fill in the middle: code before and behind a gap, to prompt tokens, for models that were trained
// on it. Which one a model knows is seen from its vocabulary.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace etalon::text {

/// The tokens that mark the parts.
struct FimTokens {
    std::int32_t prefix = kNoToken;
    std::int32_t suffix = kNoToken;
    std::int32_t middle = kNoToken;  ///< kNoToken: the suffix comes first and the prefix ends the
                                     ///< prompt (Codestral)
};

/// nullopt: the vocabulary has none of the known sets.
std::optional<FimTokens> fim_tokens_of(const TokenizerData& data);

/// [bos] prefix-token PREFIX suffix-token SUFFIX middle-token, or, without a middle token,
/// [bos] suffix-token SUFFIX prefix-token PREFIX. Texts are encoded without special tokens and
/// without a space in front.
std::vector<std::int32_t> encode_fim(const Tokenizer& tokenizer, const FimTokens& tokens,
                                     const std::string& prefix, const std::string& suffix);

}  // namespace etalon::text

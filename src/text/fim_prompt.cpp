// SPDX-License-Identifier: Apache-2.0
// Prompts of fill in the middle.
#include "text/fim_prompt.h"

#include <array>
#include <string_view>

namespace etalon::text {

namespace {

struct Names {
    std::string_view prefix;
    std::string_view suffix;
    std::string_view middle;
};

constexpr std::array<Names, 4> kKnown{{
    {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},  // Qwen-2.5-Coder
    {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},        // StarCoder, Granite
    {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},        // SantaCoder
    {"[PREFIX]", "[SUFFIX]", ""},                            // Codestral
}};

/// Only what can be no text: a normal token of that spelling is text.
std::int32_t find(const TokenizerData& data, std::string_view name) {
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        const bool special =
            data.types[i] == TokenType::control || data.types[i] == TokenType::user_defined;
        if (special && data.tokens[i] == name) return static_cast<std::int32_t>(i);
    }
    return kNoToken;
}

}  // namespace

std::optional<FimTokens> fim_tokens_of(const TokenizerData& data) {
    for (const Names& names : kKnown) {
        const FimTokens tokens{find(data, names.prefix), find(data, names.suffix),
                               names.middle.empty() ? kNoToken : find(data, names.middle)};
        const bool has_middle = names.middle.empty() || tokens.middle != kNoToken;
        if (tokens.prefix != kNoToken && tokens.suffix != kNoToken && has_middle) return tokens;
    }
    return std::nullopt;
}

std::vector<std::int32_t> encode_fim(const Tokenizer& tokenizer, const FimTokens& tokens,
                                     const std::string& prefix, const std::string& suffix) {
    std::vector<std::int32_t> ids;
    const TokenizerData& data = tokenizer.data();
    const auto part = [&](std::int32_t marker, const std::string& text) {
        ids.push_back(marker);
        const auto content =
            tokenizer.encode(text, {.special = false, .add_bos = false, .add_prefix_space = false});
        ids.insert(ids.end(), content.begin(), content.end());
    };
    if (data.add_bos && data.bos != kNoToken) ids.push_back(data.bos);
    if (tokens.middle == kNoToken) {
        part(tokens.suffix, suffix);
        part(tokens.prefix, prefix);
        return ids;
    }
    part(tokens.prefix, prefix);
    part(tokens.suffix, suffix);
    ids.push_back(tokens.middle);
    return ids;
}

}  // namespace etalon::text

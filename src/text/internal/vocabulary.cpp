// SPDX-License-Identifier: Apache-2.0
// Checks of what a file said, and the byte alphabet.
#include "text/internal/vocabulary.h"

#include <cmath>

#include "base/error.h"
#include "text/internal/limits.h"
#include "text/internal/unicode.h"

namespace etalon::text {
namespace {

[[noreturn]] void refuse(const std::string& field, const std::string& reason) {
    throw Error(ExitCode::invalid, "tokenizer " + field + ": " + reason);
}

/// Printable bytes of Latin-1 stand for themselves; the others are numbered from U+0100 on.
bool stands_for_itself(int byte) {
    return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

constexpr char32_t kAlphabetEnd = 0x144;

std::array<char32_t, 256> alphabet_values() {
    std::array<char32_t, 256> values;
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
        const auto i = static_cast<std::size_t>(byte);
        values[i] = stands_for_itself(byte) ? static_cast<char32_t>(byte) : next++;
    }
    return values;
}

/// Byte by character of the alphabet, -1 where there is none.
const std::array<int, kAlphabetEnd>& alphabet_bytes() {
    static const auto table = [] {
        std::array<int, kAlphabetEnd> bytes;
        bytes.fill(-1);
        const auto values = alphabet_values();
        for (int byte = 0; byte < 256; ++byte)
            bytes[values[static_cast<std::size_t>(byte)]] = byte;
        return bytes;
    }();
    return table;
}

int hex_digit(char c) noexcept {
    if (c >= '0' && c <= '9') return c - '0';
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

void check_id(const TokenizerData& data, std::int32_t id, const std::string& field) {
    if (id < kNoToken || (id >= 0 && static_cast<std::size_t>(id) >= data.tokens.size())) {
        refuse(field, "id " + std::to_string(id) + " is outside of the vocabulary of " +
                          std::to_string(data.tokens.size()) + " tokens");
    }
}

void check_tokens(const TokenizerData& data) {
    const std::size_t count = data.tokens.size();
    if (count == 0) refuse("tokens", "there are none");
    if (count > kVocabularyMax) {
        refuse("tokens", std::to_string(count) + ", at most " + std::to_string(kVocabularyMax) +
                             " are supported");
    }
    if (data.types.size() != count) {
        refuse("types",
               std::to_string(data.types.size()) + " for " + std::to_string(count) + " tokens");
    }
    for (std::size_t i = 0; i < count; ++i) {
        if (data.tokens[i].size() > kTokenBytesMax) {
            refuse("token " + std::to_string(i),
                   "longer than " + std::to_string(kTokenBytesMax) + " bytes");
        }
        if (data.types[i] < TokenType::normal || data.types[i] > TokenType::byte) {
            refuse("types", "token " + std::to_string(i) + " has the unknown type " +
                                std::to_string(static_cast<int>(data.types[i])));
        }
    }
}

void check_scores(const TokenizerData& data) {
    const std::size_t needed = data.kind == TokenizerKind::sentencepiece ? data.tokens.size() : 0;
    if (data.scores.size() != needed) {
        refuse("scores",
               std::to_string(data.scores.size()) + ", needed are " + std::to_string(needed));
    }
    for (std::size_t i = 0; i < data.scores.size(); ++i) {
        if (!std::isfinite(data.scores[i])) {
            refuse("scores", "the score of token " + std::to_string(i) + " is not finite");
        }
    }
}

}  // namespace

const std::array<std::string, 256>& byte_alphabet() {
    static const auto table = [] {
        std::array<std::string, 256> letters;
        const auto values = alphabet_values();
        for (std::size_t byte = 0; byte < 256; ++byte)
            append_utf8(letters[byte], values[byte]);
        return letters;
    }();
    return table;
}

std::string bytes_from_alphabet(std::string_view token) {
    const auto& bytes = alphabet_bytes();
    std::string out;
    for (std::size_t at = 0; at < token.size();) {
        const auto step = utf8_at(token, at);
        const bool known =
            step.state == Utf8::whole && step.value < kAlphabetEnd && bytes[step.value] >= 0;
        if (!known) return std::string(token);
        out.push_back(static_cast<char>(bytes[step.value]));
        at += step.size;
    }
    return out;
}

int byte_of_token(std::string_view token) noexcept {
    if (token.size() != 6 || token.substr(0, 3) != "<0x" || token[5] != '>') return -1;
    const int high = hex_digit(token[3]);
    const int low = hex_digit(token[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

void check_tokenizer_data(const TokenizerData& data) {
    check_tokens(data);
    check_scores(data);
    const std::size_t merges_max = data.kind == TokenizerKind::byte_bpe ? kMergesMax : 0;
    if (data.merges.size() > merges_max) {
        refuse("merges", std::to_string(data.merges.size()) + ", at most " +
                             std::to_string(merges_max) + " are supported");
    }
    check_id(data, data.bos, "bos");
    check_id(data, data.eos, "eos");
    check_id(data, data.unknown, "unknown");
    check_id(data, data.padding, "padding");
    if (data.end_of_turn.size() > data.tokens.size()) refuse("end of turn", "too many tokens");
    for (const auto id : data.end_of_turn) {
        if (id == kNoToken) refuse("end of turn", "id -1 is no token");
        check_id(data, id, "end of turn");
    }
    if (data.chat_template.size() > kTemplateBytesMax) {
        refuse("chat template", "longer than " + std::to_string(kTemplateBytesMax) + " bytes");
    }
}

void check_tokenizer_data(const TokenizerData& data, const std::string& file) {
    try {
        check_tokenizer_data(data);
    } catch (const Error& error) {
        throw Error(error.code(), error.message() + " (" + printable(file) + ")", error.hint());
    }
}

std::unordered_map<std::string_view, std::int32_t> ids_by_text(const TokenizerData& data) {
    std::unordered_map<std::string_view, std::int32_t> ids;
    ids.reserve(data.tokens.size());
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        const auto [known, is_new] = ids.try_emplace(data.tokens[i], static_cast<std::int32_t>(i));
        if (is_new || data.types[i] == TokenType::unused) continue;
        if (data.types[static_cast<std::size_t>(known->second)] != TokenType::unused) {
            refuse("tokens", std::to_string(known->second) + " and " + std::to_string(i) +
                                 " are the same text '" + printable(data.tokens[i], 40) + "'");
        }
        known->second = static_cast<std::int32_t>(i);
    }
    return ids;
}

}  // namespace etalon::text

// SPDX-License-Identifier: Apache-2.0
// The tokenizer: cuts a text at the tokens that are searched in it, gives the rest to the algorithm
// of its kind, and turns ids back into bytes.
#include "text/tokenizer.h"

#include <algorithm>
#include <optional>

#include "base/error.h"
#include "text/internal/byte_bpe.h"
#include "text/internal/limits.h"
#include "text/internal/sentencepiece.h"
#include "text/internal/token_matcher.h"
#include "text/internal/unicode.h"
#include "text/internal/vocabulary.h"
#include "text/internal/word_splitter.h"

namespace etalon::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

std::string with_spaces(std::string_view token) {
    std::string out;
    for (std::size_t at = 0; at < token.size();) {
        if (token.substr(at, kSpaceSymbol.size()) == kSpaceSymbol) {
            out.push_back(' ');
            at += kSpaceSymbol.size();
        } else {
            out.push_back(token[at++]);
        }
    }
    return out;
}

std::string with_space_symbols(std::string_view text, bool prefix) {
    std::string out;
    out.reserve(text.size() + text.size() / 4 + kSpaceSymbol.size());
    if (prefix) out += kSpaceSymbol;
    for (const char byte : text) {
        if (byte == ' ') {
            out += kSpaceSymbol;
        } else {
            out.push_back(byte);
        }
    }
    return out;
}

/// What a token stands for in a text, control tokens apart.
std::string bytes_of_token(const TokenizerData& data, std::size_t i) {
    const std::string& token = data.tokens[i];
    const bool byte_bpe = data.kind == TokenizerKind::byte_bpe;
    switch (data.types[i]) {
        case TokenType::control:
            return "";
        case TokenType::unknown:
            return std::string(kReplacement);
        case TokenType::user_defined:
            return byte_bpe ? token : with_spaces(token);
        case TokenType::byte: {
            const int byte = byte_of_token(token);
            if (byte >= 0) return std::string(1, static_cast<char>(byte));
            break;
        }
        case TokenType::normal:
        case TokenType::unused:
            break;
    }
    return byte_bpe ? bytes_from_alphabet(token) : with_spaces(token);
}

}  // namespace

struct Tokenizer::Impl {
    explicit Impl(TokenizerData from_file);
    void encode_plain(std::string_view text, bool prefix, std::vector<std::int32_t>& out) const;
    const std::string& bytes(std::int32_t id, bool special) const;

    TokenizerData data;
    std::vector<std::string> token_bytes;
    std::optional<ByteBpe> byte_bpe;
    std::optional<SentencepieceBpe> sentencepiece;
    TokenMatcher added;              ///< byte_bpe: user-defined tokens
    TokenMatcher added_and_control;  ///< and control tokens, for options.special
};

Tokenizer::Impl::Impl(TokenizerData from_file) : data(std::move(from_file)) {
    check_tokenizer_data(data);
    const auto ids = ids_by_text(data);
    const bool is_byte_bpe = data.kind == TokenizerKind::byte_bpe;
    if (is_byte_bpe) {
        byte_bpe.emplace(data, ids);
    } else {
        sentencepiece.emplace(data);
    }
    token_bytes.reserve(data.tokens.size());
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        token_bytes.push_back(bytes_of_token(data, i));
        const auto id = static_cast<std::int32_t>(i);
        // SentencePiece finds user-defined tokens itself: they are symbols inside of a text there.
        if (data.types[i] == TokenType::control) added_and_control.add(data.tokens[i], id);
        if (data.types[i] == TokenType::user_defined && is_byte_bpe) {
            added.add(data.tokens[i], id);
            added_and_control.add(data.tokens[i], id);
        }
    }
}

/// Text without tokens to search for.
void Tokenizer::Impl::encode_plain(std::string_view text, bool prefix,
                                   std::vector<std::int32_t>& out) const {
    if (text.empty()) return;
    if (sentencepiece) return sentencepiece->encode(with_space_symbols(text, prefix), out);
    const std::string normal = data.normalize_nfc ? to_nfc(text) : std::string();
    if (data.normalize_nfc) text = normal;
    ByteBpe::Scratch scratch;
    std::size_t begin = 0;
    for (const auto end : split_words(data.pretokenizer, text)) {
        byte_bpe->encode_word(text.substr(begin, end - begin), scratch, out);
        begin = end;
    }
}

const std::string& Tokenizer::Impl::bytes(std::int32_t id, bool special) const {
    ETALON_ASSERT(id >= 0 && static_cast<std::size_t>(id) < token_bytes.size());
    const auto i = static_cast<std::size_t>(id);
    const bool as_text = special && data.types[i] == TokenType::control;
    return as_text ? data.tokens[i] : token_bytes[i];
}

Tokenizer::Tokenizer(TokenizerData data) : impl_(std::make_unique<Impl>(std::move(data))) {}
Tokenizer::~Tokenizer() = default;
Tokenizer::Tokenizer(Tokenizer&&) noexcept = default;
Tokenizer& Tokenizer::operator=(Tokenizer&&) noexcept = default;

const TokenizerData& Tokenizer::data() const noexcept {
    return impl_->data;
}

std::int32_t Tokenizer::vocab_size() const noexcept {
    return static_cast<std::int32_t>(impl_->data.tokens.size());
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text,
                                            const EncodeOptions& options) const {
    if (text.size() > kTextBytesMax) {
        throw Error(ExitCode::usage, "text of " + std::to_string(text.size()) + " bytes, at most " +
                                         std::to_string(kTextBytesMax) + " can be encoded");
    }
    const TokenizerData& data = impl_->data;
    std::vector<std::int32_t> out;
    if (options.add_bos && data.add_bos && data.bos != kNoToken) out.push_back(data.bos);
    // Each part between control tokens gets the prefix space, as in training.
    const bool prefix = options.add_prefix_space && data.add_space_prefix;
    const TokenMatcher& matcher = options.special ? impl_->added_and_control : impl_->added;
    std::size_t plain = 0;
    for (std::size_t at = 0; !matcher.empty() && at < text.size();) {
        const auto match = matcher.longest_at(text, at);
        if (match.id == kNoToken) {
            ++at;
            continue;
        }
        impl_->encode_plain(text.substr(plain, at - plain), prefix, out);
        out.push_back(match.id);
        at += match.size;
        plain = at;
    }
    impl_->encode_plain(text.substr(plain), prefix, out);
    return out;
}

std::string Tokenizer::token_bytes(std::int32_t id, bool special) const {
    return impl_->bytes(id, special);
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool special) const {
    std::string out;
    for (const auto id : ids)
        out += impl_->bytes(id, special);
    const bool prefixed = impl_->data.add_space_prefix && impl_->sentencepiece.has_value();
    if (prefixed && !special && out.starts_with(' ')) out.erase(0, 1);
    return out;
}

bool Tokenizer::ends_generation(std::int32_t id) const noexcept {
    const auto& ends = impl_->data.end_of_turn;
    return id != kNoToken &&
           (id == impl_->data.eos || std::find(ends.begin(), ends.end(), id) != ends.end());
}

std::string StreamDecoder::push(std::int32_t id) {
    std::string bytes = tokenizer_->token_bytes(id);
    const TokenizerData& data = tokenizer_->data();
    if (first_ && !bytes.empty()) {
        first_ = false;
        const bool prefixed = data.kind == TokenizerKind::sentencepiece && data.add_space_prefix;
        if (prefixed && bytes.front() == ' ') bytes.erase(0, 1);
    }
    pending_ += bytes;
    return take(false);
}

std::string StreamDecoder::finish() {
    return take(true);
}

std::string StreamDecoder::take(bool last) {
    std::string out;
    std::size_t at = 0;
    while (at < pending_.size()) {
        const auto step = utf8_at(pending_, at);
        if (step.state == Utf8::incomplete && !last) break;
        if (step.state == Utf8::whole) {
            out.append(pending_, at, step.size);
        } else {
            out += kReplacement;
        }
        at += step.size;
    }
    pending_.erase(0, at);
    return out;
}

}  // namespace etalon::text

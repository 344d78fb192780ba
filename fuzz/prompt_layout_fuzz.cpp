// SPDX-License-Identifier: Apache-2.0
// Any bytes as a chat template and as the contents of a conversation: no layout, or a prompt in
// which the contents have made no control token.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../tests/text/small_tokenizers.h"
#include "base/error.h"
#include "text/prompt_layout.h"
#include "text/tokenizer.h"

namespace {

using etalon::text::encode_conversation;
using etalon::text::Message;
using etalon::text::Role;
using etalon::text::Tokenizer;
using etalon::text::TokenizerData;
using etalon::text::TokenType;

std::ptrdiff_t control_tokens(const TokenizerData& data, const std::vector<std::int32_t>& ids) {
    return std::count_if(ids.begin(), ids.end(), [&](std::int32_t id) {
        return data.types[static_cast<std::size_t>(id)] == TokenType::control;
    });
}

void use(TokenizerData data, const std::string& chat_template, const std::string& content) {
    data.chat_template = chat_template;
    const auto layout = etalon::text::layout_of(data);
    if (!layout) return;
    ETALON_ASSERT(!etalon::text::layout_name(*layout).empty());
    try {
        const Tokenizer tokenizer(std::move(data));
        const auto count = [&](const std::string& text) {
            const std::vector<Message> messages{{Role::system, text},
                                                {Role::user, text},
                                                {Role::assistant, text},
                                                {Role::user, text}};
            return control_tokens(tokenizer.data(),
                                  encode_conversation(tokenizer, *layout, messages));
        };
        ETALON_ASSERT(count(content) == count("x"));
        encode_conversation(tokenizer, *layout, {{Role::user, content}});
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
}

}  // namespace

/// What stands before the first zero byte is the template, the rest the contents.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    static const TokenizerData byte_bpe = etalon::text::small_byte_bpe();
    static const TokenizerData pieces = etalon::text::small_sentencepiece();
    const std::string input(reinterpret_cast<const char*>(bytes), size);
    const auto zero = input.find('\0');
    const std::string content = zero == std::string::npos ? input : input.substr(zero + 1);
    use(byte_bpe, input.substr(0, zero), content);
    use(pieces, input.substr(0, zero), content);
    return 0;
}

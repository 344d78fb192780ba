// SPDX-License-Identifier: Apache-2.0
// Any text with small tokenizers; the first byte chooses the tokenizer. What was encoded must come
// back, and the stream decoder must hand out UTF-8 only.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../tests/text/small_tokenizers.h"
#include "base/error.h"
#include "text/internal/unicode.h"
#include "text/tokenizer.h"

namespace {

using etalon::text::Pretokenizer;
using etalon::text::Tokenizer;

std::vector<Tokenizer> make_tokenizers() {
    std::vector<Tokenizer> tokenizers;
    for (const auto pretokenizer : {Pretokenizer::gpt2, Pretokenizer::llama3, Pretokenizer::qwen2,
                                    Pretokenizer::smollm, Pretokenizer::tekken}) {
        tokenizers.emplace_back(etalon::text::small_byte_bpe(pretokenizer));
    }
    tokenizers.emplace_back(etalon::text::small_sentencepiece());
    return tokenizers;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
    static const auto tokenizers = make_tokenizers();
    if (size == 0) return 0;
    const Tokenizer& tokenizer = tokenizers[bytes[0] % tokenizers.size()];
    const std::string text(reinterpret_cast<const char*>(bytes) + 1, size - 1);
    const auto ids = tokenizer.encode(text, {.special = false, .add_bos = false});
    // U+2581 in a text is a space to SentencePiece, so it comes back as one.
    const bool has_space_symbol = text.find(etalon::text::kSpaceSymbol) != std::string::npos;
    ETALON_ASSERT(has_space_symbol || tokenizer.decode(ids) == text);
    etalon::text::StreamDecoder decoder(tokenizer);
    for (const auto id : ids)
        ETALON_ASSERT(etalon::text::is_utf8(decoder.push(id)));
    ETALON_ASSERT(etalon::text::is_utf8(decoder.finish()));
    const auto special = tokenizer.encode(text, {.special = true, .add_bos = false});
    ETALON_ASSERT(special.size() <= 3 * text.size() + 3);
    const auto nfc = etalon::text::to_nfc(text);
    ETALON_ASSERT(etalon::text::to_nfc(nfc) == nfc);
    return 0;
}

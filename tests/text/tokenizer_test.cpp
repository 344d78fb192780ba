// SPDX-License-Identifier: Apache-2.0
// Encoding and decoding with small vocabularies, against slow and simple forms of the algorithms.
#include "text/tokenizer.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <limits>
#include <rapidcheck.h>
#include <string>
#include <vector>

#include "base/error.h"
#include "small_tokenizers.h"
#include "text/internal/unicode.h"
#include "text/internal/word_splitter.h"

namespace etalon::text {
namespace {

using Ids = std::vector<std::int32_t>;
using namespace std::string_literals;

constexpr EncodeOptions kPlain{.special = false, .add_bos = false};
constexpr EncodeOptions kSpecial{.special = true, .add_bos = false};

std::int32_t id_of(const TokenizerData& data, const std::string& token) {
    const auto found = std::find(data.tokens.begin(), data.tokens.end(), token);
    return found == data.tokens.end() ? kNoToken
                                      : static_cast<std::int32_t>(found - data.tokens.begin());
}

/// Applies the merge of lowest rank at its leftmost place until none is left: quadratic.
Ids merged_slowly(const TokenizerData& data, std::string_view word) {
    std::vector<std::string> parts;
    for (const char byte : word)
        parts.push_back(byte_alphabet()[static_cast<std::uint8_t>(byte)]);
    for (const auto* best = &data.merges.front(); best != nullptr;) {
        best = nullptr;
        std::size_t at = 0;
        for (const auto& merge : data.merges) {
            for (std::size_t i = 0; best == nullptr && i + 1 < parts.size(); ++i) {
                if (parts[i] != merge.first || parts[i + 1] != merge.second) continue;
                best = &merge;
                at = i;
            }
        }
        if (best == nullptr) break;
        parts[at] += parts[at + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(at) + 1);
    }
    Ids ids;
    for (const auto& part : parts)
        ids.push_back(id_of(data, part));
    return ids;
}

TEST(ByteBpe, merges_by_rank_then_from_the_left) {
    const Tokenizer tokenizer(small_byte_bpe());
    EXPECT_EQ(shown(tokenizer.data(), tokenizer.encode("hello hell he", kPlain)),
              "hello|Ġ|hell|Ġhe");
    EXPECT_EQ(shown(tokenizer.data(), tokenizer.encode("AAAAA", kPlain)), "AA|AAA");
    EXPECT_EQ(shown(tokenizer.data(), tokenizer.encode("AAAAAAAA", kPlain)), "AAAA|AAAA");
    EXPECT_EQ(tokenizer.encode("", kPlain), Ids{});
}

TEST(ByteBpe, equals_the_slow_form_on_random_texts) {
    const TokenizerData data = small_byte_bpe();
    const Tokenizer tokenizer(data);
    EXPECT_TRUE(
        rc::check("heap and slow form agree", [&](const std::vector<std::uint8_t>& choices) {
            std::string text;
            for (const auto choice : choices)
                text.push_back("helo AA"[choice % 7]);
            Ids expected;
            std::size_t begin = 0;
            for (const auto end : split_words(data.pretokenizer, text)) {
                const auto word =
                    merged_slowly(data, std::string_view(text).substr(begin, end - begin));
                expected.insert(expected.end(), word.begin(), word.end());
                begin = end;
            }
            RC_ASSERT(tokenizer.encode(text, kPlain) == expected);
        }));
}

TEST(ByteBpe, any_bytes_come_back) {
    for (const auto pretokenizer : {Pretokenizer::gpt2, Pretokenizer::llama3, Pretokenizer::qwen2,
                                    Pretokenizer::smollm, Pretokenizer::tekken}) {
        const Tokenizer tokenizer(small_byte_bpe(pretokenizer));
        EXPECT_TRUE(rc::check(
            "decode(encode(x)) == x", [&tokenizer](const std::string& bytes, bool special) {
                const auto ids = tokenizer.encode(bytes, {.special = special, .add_bos = false});
                RC_ASSERT(tokenizer.decode(ids, special) == bytes);
            }));
    }
    const Tokenizer tokenizer(small_byte_bpe());
    std::string all;
    for (int byte = 0; byte < 256; ++byte)
        all.push_back(static_cast<char>(byte));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(all, kPlain)), all);
}

TEST(ByteBpe, a_byte_without_a_token_is_left_out) {
    TokenizerData data = small_byte_bpe();
    data.tokens[0xFF] = "no byte";
    const Tokenizer tokenizer(data);
    EXPECT_EQ(tokenizer.encode("h\xFF"
                               "e",
                               kPlain),
              (Ids{'h', 'e'}));  // two words, so they are not merged
    EXPECT_EQ(tokenizer.encode("\xFF", kPlain), Ids{});
}

TEST(ByteBpe, control_tokens_are_found_only_when_asked) {
    const Tokenizer tokenizer(small_byte_bpe());
    const auto plain = tokenizer.encode("<|im_end|>", kPlain);
    EXPECT_EQ(std::count(plain.begin(), plain.end(), kSmallImEnd), 0);
    EXPECT_EQ(tokenizer.decode(plain), "<|im_end|>");
    EXPECT_EQ(tokenizer.encode("<|im_start|>hello<|im_end|>", kSpecial),
              (Ids{kSmallImStart, kSmallHello, kSmallImEnd}));
    EXPECT_EQ(tokenizer.encode("<|im_<|im_end|>", kSpecial).back(), kSmallImEnd);
    EXPECT_EQ(tokenizer.decode(Ids{kSmallImStart, kSmallHello}), "hello");
    EXPECT_EQ(tokenizer.decode(Ids{kSmallImStart, kSmallHello}, true), "<|im_start|>hello");
}

TEST(ByteBpe, added_tokens_are_always_found_longest_first) {
    TokenizerData data = small_byte_bpe();
    const auto longer = add_token(data, "  <tab>>", TokenType::user_defined);
    const Tokenizer tokenizer(data);
    EXPECT_EQ(tokenizer.encode("hello  <tab>", kPlain), (Ids{kSmallHello, kSmallTab}));
    EXPECT_EQ(tokenizer.encode("hello  <tab>>", kPlain), (Ids{kSmallHello, longer}));
    EXPECT_EQ(tokenizer.decode(Ids{kSmallTab}), "  <tab>");
}

TEST(ByteBpe, bos_comes_first_where_the_model_wants_it) {
    TokenizerData data = small_byte_bpe();
    EXPECT_EQ(Tokenizer(data).encode("hello", {}), (Ids{kSmallHello}));
    data.add_bos = true;
    EXPECT_EQ(Tokenizer(data).encode("hello", {}), (Ids{kSmallBos, kSmallHello}));
    EXPECT_EQ(Tokenizer(data).encode("hello", kPlain), (Ids{kSmallHello}));
}

TEST(ByteBpe, ignore_merges_takes_a_word_that_is_a_token) {
    TokenizerData data = small_byte_bpe();
    const auto whole = add_token(data, "Ġworld", TokenType::normal);
    EXPECT_EQ(Tokenizer(data).encode(" world", kPlain).size(), 6U);
    data.ignore_merges = true;
    EXPECT_EQ(Tokenizer(data).encode(" world", kPlain), (Ids{whole}));
}

TEST(ByteBpe, nfc_is_applied_only_when_the_data_say_so) {
    TokenizerData data = small_byte_bpe();
    EXPECT_EQ(Tokenizer(data).decode(Tokenizer(data).encode("e\u0301", kPlain)), "e\u0301");
    data.normalize_nfc = true;
    EXPECT_EQ(shown(data, Tokenizer(data).encode("e\u0301", kPlain)), "Ã©");
}

/// No time is measured: the merge loops assert their number of steps, the matchers of words count
/// theirs (word_splitter_test), and quadratic time would run into the limit of the whole program.
TEST(Encode, a_megabyte_of_hostile_text_comes_back) {
    TokenizerData normalizing = small_byte_bpe(Pretokenizer::qwen2);
    normalizing.normalize_nfc = true;
    const Tokenizer words(small_byte_bpe(Pretokenizer::smollm));
    const Tokenizer pieces(small_sentencepiece());
    const Tokenizer nfc(normalizing);
    // The last two are runs of marks that NFC must sort: the classes 220 and 230 take turns.
    for (const std::string& unit : {"A"s, "a"s, "ab"s, " "s, "<"s, "1"s, "1a"s, "\xFF"s, "<x>"s,
                                    "A "s, "\u0301"s, "\u0323\u0301"s, "\u0301\u0323"s}) {
        std::string text;
        while (text.size() < (std::size_t{1} << 20))
            text += unit;
        for (const auto* tokenizer : {&words, &pieces})
            EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, kSpecial)), text) << unit;
        EXPECT_EQ(nfc.decode(nfc.encode(text, kSpecial)), to_nfc(text)) << unit;
    }
}

/// One step for each token: a stream of tokens whose bytes never become a character is handed out
/// as it comes, and nothing piles up.
TEST(StreamDecoder, holds_back_three_bytes_at_most) {
    const TokenizerData data = small_byte_bpe();
    const Tokenizer tokenizer(data);
    for (const int byte : {0x80, 0xC3, 0xE4, 0xF0, 0xFF}) {
        StreamDecoder decoder(tokenizer);
        for (int n = 1; n <= 1000; ++n) {
            const std::string shown = decoder.push(byte);
            EXPECT_TRUE(is_utf8(shown));
            const bool right = n == 1 || shown == "\uFFFD";  // the byte before this one
            EXPECT_TRUE(right) << byte;
        }
        EXPECT_LE(decoder.finish().size(), 3U);
    }
}

/// A character of four bytes, each its own token: shown whole with the last one, not before.
TEST(StreamDecoder, never_shows_half_a_character) {
    const Tokenizer tokenizer(small_byte_bpe());
    StreamDecoder decoder(tokenizer);
    const std::string emoji = "\U0001F600";
    for (std::size_t i = 0; i < emoji.size(); ++i) {
        const auto shown = decoder.push(static_cast<std::uint8_t>(emoji[i]));
        EXPECT_EQ(shown, i == 3 ? emoji : "");
    }
    EXPECT_EQ(decoder.push(0xF0), "");
    EXPECT_EQ(decoder.push(0x9F), "");
    EXPECT_EQ(decoder.push(kSmallImEnd), "");  // a control token shows nothing
    EXPECT_EQ(decoder.push('a'), "\uFFFDa");   // and what was cut off is replaced once
    EXPECT_EQ(decoder.finish(), "");
}

/// Joins the two neighbours that make the piece of highest score, leftmost first: quadratic.
Ids pieces_slowly(const TokenizerData& data, const std::string& text) {
    std::vector<std::string> parts;
    for (std::size_t at = 0; at < text.size();) {
        const auto size = utf8_at(text, at).size;
        parts.push_back(text.substr(at, size));
        at += size;
    }
    while (true) {
        std::int32_t best = kNoToken;
        std::size_t best_at = 0;
        for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
            const auto id = id_of(data, parts[i] + parts[i + 1]);
            if (id == kNoToken) continue;
            const auto score = data.scores[static_cast<std::size_t>(id)];
            if (best != kNoToken && score <= data.scores[static_cast<std::size_t>(best)]) continue;
            best = id;
            best_at = i;
        }
        if (best == kNoToken) break;
        parts[best_at] += parts[best_at + 1];
        parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best_at) + 1);
    }
    Ids ids;
    for (const auto& part : parts) {
        const auto id = id_of(data, part);
        if (id != kNoToken) {
            ids.push_back(id);
        } else {
            for (const char byte : part)
                ids.push_back(3 + static_cast<std::uint8_t>(byte));
        }
    }
    return ids;
}

TEST(Sentencepiece, equals_the_slow_form_on_random_texts) {
    const TokenizerData data = small_sentencepiece();
    const Tokenizer tokenizer(data);
    const std::vector<std::string> units = {"a", "b", "c", "▁", "é", "z", "中"};
    EXPECT_TRUE(
        rc::check("heap and slow form agree", [&](const std::vector<std::uint8_t>& choices) {
            std::string text;
            for (const auto choice : choices)
                text += units[choice % units.size()];
            RC_ASSERT(tokenizer.encode(text, {.add_bos = false, .add_prefix_space = false}) ==
                      pieces_slowly(data, text));
        }));
}

TEST(Sentencepiece, prefix_bytes_and_added_tokens) {
    const Tokenizer tokenizer(small_sentencepiece());
    const auto show = [&](std::string_view text, const EncodeOptions& options) {
        return shown(tokenizer.data(), tokenizer.encode(text, options));
    };
    EXPECT_EQ(show("", {}), "<s>");
    EXPECT_EQ(show("abc", {}), "<s>|▁|abc");  // "ab" before "▁a" and "bc"
    EXPECT_EQ(show("aab", kPlain), "▁a|ab");
    EXPECT_EQ(show("abc", {.add_bos = false, .add_prefix_space = false}), "abc");
    EXPECT_EQ(show("z中", kPlain), "▁|<0x7A>|<0xE4>|<0xB8>|<0xAD>");
    EXPECT_EQ(show("\xFF\xC3", kPlain), "▁|<0xFF>|<0xC3>");
    EXPECT_EQ(show("<s>", kPlain), "▁|<0x3C>|<0x73>|<0x3E>");
    EXPECT_EQ(show("a<s>a", kSpecial), "▁a|<s>|▁a");  // each part has its own prefix
    EXPECT_EQ(show("a<x>ya<x>a", kPlain), "▁a|<x>y|a|<x>|a");
    EXPECT_EQ(show("  ", kPlain), "▁▁|▁");
}

TEST(Sentencepiece, text_comes_back) {
    const Tokenizer tokenizer(small_sentencepiece());
    EXPECT_TRUE(rc::check("decode(encode(x)) == x", [&tokenizer](const std::string& text) {
        RC_ASSERT(tokenizer.decode(tokenizer.encode(text, {})) == text);
    }));
}

TEST(Sentencepiece, without_bytes_a_run_of_unknown_characters_is_one_token) {
    const TokenizerData data = small_sentencepiece(false);
    EXPECT_EQ(shown(data, Tokenizer(data).encode("azzaz", kPlain)), "▁a|<unk>|a|<unk>");
}

TEST(Sentencepiece, unused_pieces_are_taken_apart) {
    TokenizerData data = small_sentencepiece();
    data.types[static_cast<std::size_t>(id_of(data, "abc"))] = TokenType::unused;
    EXPECT_EQ(shown(data, Tokenizer(data).encode("abc", kPlain)), "▁|ab|c");
    data.types[static_cast<std::size_t>(id_of(data, "ab"))] = TokenType::unused;
    EXPECT_EQ(shown(data, Tokenizer(data).encode("abcaa", kPlain)), "▁|a|b|c|aa");
}

TEST(StreamDecoder, shows_whole_characters_only) {
    const Tokenizer tokenizer(small_byte_bpe());
    const auto show = [&tokenizer](const std::string& bytes) {
        StreamDecoder decoder(tokenizer);
        std::string out;
        for (const char byte : bytes) {
            const auto id = static_cast<std::int32_t>(static_cast<std::uint8_t>(byte));
            out += "[" + decoder.push(id) + "]";
        }
        return out + decoder.finish();
    };
    EXPECT_EQ(show("a\xC3\xA9"), "[a][][é]");
    EXPECT_EQ(show("\xF0\x9F\x98\x80"), "[][][][😀]");
    EXPECT_EQ(show("\xFF"), "[\uFFFD]");
    EXPECT_EQ(show("\xE2\x82z"), "[][][\uFFFDz]");
    EXPECT_EQ(show("\xC3"), "[]\uFFFD");
    EXPECT_EQ(show("\xED\xA0\x80"), "[][\uFFFD\uFFFD][\uFFFD]");
}

TEST(StreamDecoder, output_is_utf8_and_the_text_when_that_is) {
    const Tokenizer tokenizer(small_byte_bpe());
    EXPECT_TRUE(rc::check("stream of any bytes", [&tokenizer](const std::string& bytes) {
        StreamDecoder decoder(tokenizer);
        std::string out;
        for (const auto id : tokenizer.encode(bytes, kPlain)) {
            const auto part = decoder.push(id);
            RC_ASSERT(is_utf8(part));
            out += part;
        }
        out += decoder.finish();
        RC_ASSERT(is_utf8(out));
        if (is_utf8(bytes)) RC_ASSERT(out == bytes);
    }));
}

TEST(StreamDecoder, drops_the_prefix_space_once) {
    const Tokenizer tokenizer(small_sentencepiece());
    StreamDecoder decoder(tokenizer);
    std::string out;
    for (const auto id : tokenizer.encode("a  a", {}))
        out += decoder.push(id);
    EXPECT_EQ(out + decoder.finish(), "a  a");
}

TEST(Tokenizer, ends_of_a_turn) {
    TokenizerData data = small_byte_bpe();
    data.end_of_turn = {5, 7};
    const Tokenizer tokenizer(data);
    EXPECT_TRUE(tokenizer.ends_generation(data.eos));
    EXPECT_TRUE(tokenizer.ends_generation(7));
    EXPECT_FALSE(tokenizer.ends_generation(6));
    EXPECT_FALSE(tokenizer.ends_generation(kNoToken));
}

void expect_data_refused(const TokenizerData& data, const std::string& part_of_message) {
    try {
        const Tokenizer tokenizer(data);
        FAIL() << "not refused: " << part_of_message;
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::invalid);
        EXPECT_NE(error.message().find(part_of_message), std::string::npos) << error.message();
    }
}

TEST(Tokenizer, inconsistent_data_are_refused) {
    const TokenizerData good = small_byte_bpe();
    const auto change = [&good](auto&& how) {
        TokenizerData data = good;
        how(data);
        return data;
    };
    expect_data_refused({}, "there are none");
    expect_data_refused(change([](auto& d) { d.tokens[300 % 256] = d.tokens[1]; }),
                        "the same text");
    expect_data_refused(change([](auto& d) { d.types.pop_back(); }), "types");
    expect_data_refused(change([](auto& d) { d.types[3] = TokenType{9}; }), "unknown type 9");
    expect_data_refused(change([](auto& d) { d.merges.emplace_back("q", "q"); }),
                        "'qq' is no token");
    expect_data_refused(change([](auto& d) { d.bos = 100000; }), "bos");
    expect_data_refused(change([](auto& d) { d.eos = -2; }), "eos");
    expect_data_refused(change([](auto& d) { d.end_of_turn = {-1}; }), "end of turn");
    expect_data_refused(change([](auto& d) { d.scores = {1.0F}; }), "scores");
    expect_data_refused(change([](auto& d) { d.tokens[2] = std::string(5000, 'x'); }),
                        "longer than");
    expect_data_refused(change([](auto& d) { d.tokens[kSmallTab] = std::string(600, 'x'); }),
                        "1 to 512");
    TokenizerData pieces = small_sentencepiece();
    pieces.scores[5] = std::numeric_limits<float>::quiet_NaN();
    expect_data_refused(pieces, "not finite");
    pieces = small_sentencepiece();
    pieces.types[10] = TokenType::unused;
    expect_data_refused(pieces, "byte tokens are missing");
}

}  // namespace
}  // namespace etalon::text

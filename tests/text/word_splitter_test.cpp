// SPDX-License-Identifier: Apache-2.0
// Words of the five pre-tokenizers on the cases that tell them apart; compare_tokenizers.py holds
// them against the original expressions on many more.
#include "text/internal/word_splitter.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <string>
#include <vector>

namespace etalon::text {
namespace {

using namespace std::string_literals;

constexpr Pretokenizer kAll[] = {Pretokenizer::gpt2, Pretokenizer::llama3, Pretokenizer::qwen2,
                                 Pretokenizer::smollm, Pretokenizer::tekken};

std::string words(Pretokenizer pretokenizer, std::string_view text) {
    std::string out;
    std::size_t begin = 0;
    for (const auto end : split_words(pretokenizer, text)) {
        if (begin > 0) out += "|";
        out += text.substr(begin, end - begin);
        begin = end;
    }
    return out;
}

TEST(SplitWords, gpt2) {
    const auto split = [](std::string_view text) { return words(Pretokenizer::gpt2, text); };
    EXPECT_EQ(split(""), "");
    EXPECT_EQ(split("it's  2 well-known"), "it|'s| | 2| well|-|known");
    EXPECT_EQ(split("IT'S 'sa"), "IT|'|S| '|sa");
    EXPECT_EQ(split("a  \n b\n"), "a|  \n| b|\n");
    EXPECT_EQ(split("12345 6"), "12345| 6");
    EXPECT_EQ(split("a\tb  "), "a|\t|b|  ");
    EXPECT_EQ(split("we'll they've'd"), "we|'ll| they|'ve|'d");
}

TEST(SplitWords, llama3) {
    const auto split = [](std::string_view text) { return words(Pretokenizer::llama3, text); };
    EXPECT_EQ(split("IT'S'ſ"), "IT|'S|'ſ");
    EXPECT_EQ(split("1234567 8"), "123|456|7| |8");
    EXPECT_EQ(split("a\tb(c"), "a|\tb|(c");
    EXPECT_EQ(split("x  \n  y!\n\nz"), "x|  \n| | y|!\n\n|z");
    EXPECT_EQ(split(" ?! "), " ?!| ");
}

TEST(SplitWords, qwen2) {
    const auto split = [](std::string_view text) { return words(Pretokenizer::qwen2, text); };
    EXPECT_EQ(split("123 it'LL"), "1|2|3| it|'LL");
}

TEST(SplitWords, smollm) {
    const auto split = [](std::string_view text) { return words(Pretokenizer::smollm, text); };
    EXPECT_EQ(split("in  2024, it's"), "in|  |2|0|2|4|,| it|'s");
    EXPECT_EQ(split("IT'S"), "IT|'|S");
    EXPECT_EQ(split("½x"), "½|x");
}

TEST(SplitWords, tekken) {
    const auto split = [](std::string_view text) { return words(Pretokenizer::tekken, text); };
    EXPECT_EQ(split("FRANÇAIS ÉCOLE"), "FRANÇAIS| ÉCOLE");
    EXPECT_EQ(split("camelCaseHTTPServer"), "camel|Case|HTTPServer");
    EXPECT_EQ(split("it's 12"), "it|'s| |1|2");
    EXPECT_EQ(split("中AB"), "中|AB");          // U* gives back what is both
    EXPECT_EQ(split("\u0301AB"), "\u0301|AB");  // the optional character is given back
    EXPECT_EQ(split("A\u0301B"), "A\u0301|B");
    EXPECT_EQ(split("//a/\n/b"), "//|a|/\n/|b");  // slashes end a run of punctuation
    EXPECT_EQ(split("\tAb"), "\tAb");
}

TEST(SplitWords, bytes_that_are_not_utf8_are_punctuation) {
    EXPECT_EQ(words(Pretokenizer::gpt2, "1\xFF\xC3 2"), "1|\xFF\xC3| 2");
    EXPECT_EQ(words(Pretokenizer::tekken, "1\xFF\xC3 2"), "1|\xFF\xC3| |2");
}

TEST(SplitWords, words_are_the_text) {
    for (const auto pretokenizer : kAll) {
        EXPECT_TRUE(rc::check("words cover the text", [pretokenizer](const std::string& text) {
            std::uint32_t begin = 0;
            for (const auto end : split_words(pretokenizer, text)) {
                RC_ASSERT(end > begin);
                begin = end;
            }
            RC_ASSERT(begin == text.size());
        }));
    }
}

/// The work is counted, not timed: a matcher that goes back over a run would look 10^9 times.
TEST(SplitWords, hostile_texts_take_linear_time) {
    constexpr std::size_t kBytes = std::size_t{1} << 16;
    constexpr std::uint64_t kLooksPerCharacter = 24;
    const std::string marks = "\u0301\u0323";
    for (const std::string& unit :
         {"A"s,      "a"s,       " "s,       "1"s,   "\n"s,      "'"s,   "/"s,    "\xFF"s,
          "\u0301"s, "\u00BD"s,  "中"s,      marks,  "\n "s,     " \n"s, "\r\n"s, "中A"s,
          "A中"s,    "\u0301A"s, "A\u0301"s, "/\n"s, "1a"s,      "A "s,  " A"s,   "'s"s,
          "'S"s,     "aB"s,      "Ba"s,      " 1"s,  "1\u0301"s, "\t "s, "!\n"s,  " '"s}) {
        std::string text;
        while (text.size() < kBytes)
            text += unit;
        for (const std::string& last : {""s, "a"s, "A"s, " "s, "\n"s, "1"s, "!"s}) {
            for (const auto pretokenizer : kAll) {
                std::uint64_t looks = 0;
                const std::string whole = text + last;
                EXPECT_EQ(split_words(pretokenizer, whole, &looks).back(), whole.size());
                EXPECT_LE(looks, kLooksPerCharacter * whole.size()) << unit << "..." << last;
            }
        }
    }
}

}  // namespace
}  // namespace etalon::text

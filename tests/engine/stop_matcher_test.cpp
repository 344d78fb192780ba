// SPDX-License-Identifier: Apache-2.0
// Stop strings: across pieces, overlapping, held back no longer than needed; and the text of
// tokens.
#include "engine/stop_matcher.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "engine/answer_text.h"
#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

TEST(StopMatcher, holds_back_what_may_become_a_stop) {
    StopMatcher matcher({"END"});
    EXPECT_EQ(matcher.push("an E").text, "an ");
    EXPECT_EQ(matcher.push("N").text, "");
    EXPECT_EQ(matcher.push("!").text, "EN!");
    EXPECT_EQ(matcher.push("EEN").text, "E");
    const auto end = matcher.push("D and more");
    EXPECT_EQ(end.text, "");
    EXPECT_EQ(end.stop, 0U);
    EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, finish_gives_what_was_held) {
    StopMatcher matcher({"ab", "bcd"});
    EXPECT_EQ(matcher.push("xbc").text, "x");
    EXPECT_EQ(matcher.finish(), "bc");
}

TEST(StopMatcher, the_match_that_ends_first_counts) {
    StopMatcher one({"bcd", "c"});
    const auto result = one.push("abcd");
    EXPECT_EQ(result.text, "ab");
    EXPECT_EQ(result.stop, 1U);
    StopMatcher two({"c", "abc"});  // both end together: the longer one
    const auto longer = two.push("xabc");
    EXPECT_EQ(longer.text, "x");
    EXPECT_EQ(longer.stop, 1U);
}

TEST(StopMatcher, no_stops_hold_nothing) {
    StopMatcher matcher({});
    EXPECT_EQ(matcher.push("abc").text, "abc");
    EXPECT_EQ(matcher.finish(), "");
}

/// The text before the stop that ends first in the whole text, and whether there is one.
std::pair<std::string, bool> search_whole(const std::vector<std::string>& stops,
                                          const std::string& text) {
    for (std::size_t end = 1; end <= text.size(); ++end) {
        std::size_t longest = 0;
        for (const std::string& stop : stops) {
            if (text.substr(0, end).ends_with(stop)) longest = std::max(longest, stop.size());
        }
        if (longest > 0) return {text.substr(0, end - longest), true};
    }
    return {text, false};
}

TEST(StopMatcher, pieces_change_nothing) {
    const auto word = [](std::size_t least, std::size_t most) {
        const auto n = *rc::gen::inRange(least, most);
        return *rc::gen::container<std::string>(n, rc::gen::elementOf(std::string("aab")));
    };
    EXPECT_TRUE(rc::check("pieces give the text of the whole, and no part of a stop", [&] {
        std::vector<std::string> stops;
        for (int n = *rc::gen::inRange(1, 4); n > 0; --n)
            stops.push_back(word(1, 6));
        StopMatcher matcher(stops);
        std::string text;
        std::string shown;
        bool stopped = false;
        for (int n = *rc::gen::inRange(0, 10); n > 0 && !stopped; --n) {
            const std::string piece = word(0, 5);
            text += piece;
            const auto result = matcher.push(piece);
            shown += result.text;
            stopped = result.stop.has_value();
            // What is held back is the longest end that begins a stop, and nothing else.
            const auto before = search_whole(stops, text).first;
            RC_ASSERT(before.starts_with(shown));
        }
        if (!stopped) shown += matcher.finish();
        const auto whole = search_whole(stops, text);
        RC_ASSERT(shown == whole.first);
        RC_ASSERT(stopped == whole.second);
    }));
}

TEST(AnswerText, characters_stay_whole_across_tokens) {
    AnswerText text(tiny_tokenizer(), {"\xC3\xA9!"}, 0);  // U+00E9 and an exclamation mark
    EXPECT_EQ(text.push(tiny_byte('\xC3')).text, "");
    EXPECT_EQ(text.push(tiny_byte('\xA9')).text, "");  // may become the stop string
    EXPECT_EQ(text.push(tiny_byte('?')).text, "\xC3\xA9?");
    EXPECT_EQ(text.push(tiny_byte('\xC3')).text, "");
    EXPECT_EQ(text.push(tiny_byte('\xA9')).text, "");
    EXPECT_TRUE(text.push(tiny_byte('!')).stop.has_value());
    EXPECT_EQ(text.finish(), "");
}

TEST(AnswerText, min_tokens_are_not_searched) {
    AnswerText text(tiny_tokenizer(), {"ab", "b"}, 2);
    EXPECT_FALSE(text.push(tiny_byte('a')).stop);
    EXPECT_FALSE(text.push(tiny_byte('b')).stop);
    const auto third = text.push(tiny_byte('b'));
    EXPECT_EQ(third.stop, 1U);
}

TEST(AnswerText, a_broken_character_comes_out_at_the_end) {
    AnswerText text(tiny_tokenizer(), {}, 0);
    EXPECT_EQ(text.push(tiny_byte('\xE2')).text, "");
    EXPECT_EQ(text.finish(), "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// Lookup of repeated tokens and the length of proposals.
#include "engine/speculation.h"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include "engine/limits.h"

namespace etalon::engine {
namespace {

using Tokens = std::vector<std::int32_t>;

TEST(LookUp, proposes_what_followed_last_time) {
    const Tokens tokens{5, 6, 7, 8, 9, 5, 6, 7};
    EXPECT_EQ(look_up(tokens, tokens, 3), (Tokens{8, 9, 5}));
    EXPECT_EQ(look_up(tokens, tokens, 1), (Tokens{8}));
    EXPECT_EQ(look_up(tokens, tokens, 8), (Tokens{8, 9, 5, 6, 7}));
}

TEST(LookUp, the_longest_match_wins_then_the_latest) {
    const Tokens longest{1, 2, 3, 4, 50, 3, 4, 60, 1, 2, 3, 4};
    EXPECT_EQ(look_up(longest, longest, 1), (Tokens{50}));
    const Tokens latest{3, 4, 50, 3, 4, 60, 3, 4};
    EXPECT_EQ(look_up(latest, latest, 1), (Tokens{60}));
}

TEST(LookUp, one_equal_token_is_too_few) {
    const Tokens tokens{1, 2, 9, 2};
    EXPECT_TRUE(look_up(tokens, tokens, 4).empty());
    EXPECT_TRUE(look_up({}, {}, 4).empty());
    EXPECT_TRUE(look_up(tokens, tokens, 0).empty());
}

TEST(LookUp, is_a_run_of_the_history) {
    EXPECT_TRUE(rc::check("a proposal stands in the history behind the last two tokens", [] {
        const auto tokens = *rc::gen::container<Tokens>(rc::gen::inRange<std::int32_t>(0, 3));
        const auto draft = look_up(tokens, tokens, 4);
        if (draft.empty()) return;
        Tokens run{tokens[tokens.size() - 2], tokens[tokens.size() - 1]};
        run.insert(run.end(), draft.begin(), draft.end());
        RC_ASSERT(std::search(tokens.begin(), tokens.end(), run.begin(), run.end()) !=
                  tokens.end());
    }));
}

TEST(Drafter, begins_with_the_prediction) {
    const Drafter drafter(true);
    const Tokens prompt{1, 2, 3};
    const Tokens prediction{7, 8, 9};
    EXPECT_EQ(drafter.propose(prompt, 3, prediction, 8), prediction);
    const Tokens answered{1, 2, 3, 7, 8};
    EXPECT_EQ(drafter.propose(answered, 3, prediction, 8), (Tokens{9}));
}

TEST(Drafter, grows_with_acceptance_and_pauses_without) {
    Drafter drafter(false);
    EXPECT_EQ(drafter.length(), kDraftStart);
    drafter.observe(2, 2);
    drafter.observe(4, 4);
    drafter.observe(8, 8);
    EXPECT_EQ(drafter.length(), kDraftMax);
    drafter.observe(8, 3);
    EXPECT_EQ(drafter.length(), 3);
    drafter.observe(3, 0);
    EXPECT_EQ(drafter.length(), 1);
    drafter.observe(1, 0);
    for (int i = 0; i < kPauseMin; ++i) {
        EXPECT_EQ(drafter.length(), 0);
        drafter.observe(0, 0);
    }
    EXPECT_EQ(drafter.length(), 1);
    drafter.observe(1, 0);  // the second pause is twice as long
    for (int i = 0; i < 2 * kPauseMin; ++i) {
        EXPECT_EQ(drafter.length(), 0);
        drafter.observe(0, 0);
    }
    EXPECT_EQ(drafter.length(), 1);
}

}  // namespace
}  // namespace etalon::engine

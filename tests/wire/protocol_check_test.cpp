// SPDX-License-Identifier: Apache-2.0
// A worker that keeps the order passes; each way to break it is refused.
#include "wire/protocol_check.h"

#include <gtest/gtest.h>
#include <string>

#include "base/error.h"

namespace etalon::wire {
namespace {

const std::string kDigest(64, 'a');

Hello hello() {
    Hello hello;
    hello.vocab_size = 100;
    hello.context_tokens = 64;
    hello.cache_tokens = 64;
    hello.dim = 2;
    return hello;
}

/// A check behind Hello, with request 1 at the point that the test needs.
struct Talk {
    ProtocolCheck check;

    Talk() { check.received(hello()); }
    static Prepare prepare(int n = 1) {
        Prepare prepare;
        prepare.id = 1;
        prepare.sampling.n = n;
        return prepare;
    }
    void prepared(int n = 1) {
        check.sent(prepare(n));
        check.received(Prepared{1, {1, 2, 3}, 9, 4});
    }
    void running(int n = 1) {
        prepared(n);
        check.sent(Go{1});
    }
    static ChoiceEnd end(int choice = 0) {
        ChoiceEnd end;
        end.id = 1;
        end.choice = choice;
        end.digest = kDigest;
        return end;
    }
    static RequestEnd request_end(int answer) {
        RequestEnd end;
        end.id = 1;
        end.prompt_tokens = 3;
        end.answer_tokens = answer;
        return end;
    }
    static Token token(std::int32_t id, int choice = 0) {
        Token token;
        token.id = 1;
        token.token = id;
        token.choice = choice;
        return token;
    }
    void refuses(const ToFront& message) {
        try {
            check.received(message);
            ADD_FAILURE() << "it was accepted";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::invalid);
        }
    }
};

TEST(ProtocolCheck, a_whole_request_passes) {
    Talk talk;
    talk.running(2);
    talk.check.received(Talk::token(5, 0));
    talk.check.received(Talk::token(99, 1));
    talk.check.received(Talk::end(1));
    talk.check.received(Talk::end(0));
    talk.check.received(Talk::request_end(2));
    EXPECT_EQ(talk.check.n_open(), 0U);
}

TEST(ProtocolCheck, logprobs_of_the_prompt_come_before_tokens_and_only_when_asked) {
    const auto told = [](std::vector<Logprobs> tokens) {
        return PromptLogprobs{1, std::move(tokens)};
    };
    const Logprobs one{{5, -1.0F, "a"}, {}};
    Talk plain;
    plain.running();
    plain.refuses(told({one}));
    const auto asked = [] {
        Talk talk;
        Prepare prepare = Talk::prepare();
        prepare.prompt_logprobs = true;
        prepare.sampling.top_logprobs = 0;
        talk.check.sent(prepare);
        talk.check.received(Prepared{1, {1, 2, 3}, 9, 4});
        talk.check.sent(Go{1});
        return talk;
    };
    Token token = Talk::token(5);
    token.logprobs = one;
    Talk talk = asked();
    talk.check.received(told({one}));
    talk.check.received(told({one, one}));
    talk.check.received(token);
    asked().refuses(token);
    asked().refuses(told({one, one, one, one}));
    Logprobs other = one;
    other.chosen.token = 100;
    asked().refuses(told({other}));
    other = one;
    other.top.push_back(one.chosen);
    asked().refuses(told({other}));
}

TEST(ProtocolCheck, hello_comes_first_and_once) {
    ProtocolCheck check;
    check.sent(Talk::prepare());
    EXPECT_THROW(check.received(Prepared{1, {1}, 9, 4}), Error);
    check.received(hello());
    EXPECT_THROW(check.received(hello()), Error);
}

TEST(ProtocolCheck, a_hello_that_claims_nonsense_is_refused) {
    ProtocolCheck check;
    Hello none = hello();
    none.vocab_size = 0;
    EXPECT_THROW(check.received(none), Error);
    none = hello();
    none.context_tokens = -1;
    EXPECT_THROW(check.received(none), Error);
}

TEST(ProtocolCheck, nothing_follows_failed) {
    ProtocolCheck check;
    check.received(Failed{"no such file", 3});
    EXPECT_THROW(check.received(hello()), Error);
}

TEST(ProtocolCheck, messages_for_unknown_and_ended_requests_are_refused) {
    Talk talk;
    talk.refuses(Talk::token(1));
    talk.refuses(Refused{7, RefusalKind::invalid, "", ""});
    talk.running();
    talk.check.received(Talk::end());
    talk.check.received(Talk::request_end(0));
    talk.refuses(Talk::token(1));
    talk.refuses(Talk::request_end(0));
}

TEST(ProtocolCheck, ids_outside_the_vocabulary_are_refused) {
    Talk talk;
    talk.check.sent(Talk::prepare());
    talk.refuses(Prepared{1, {1, 100}, 9, 4});
    Talk second;
    second.running();
    second.refuses(Talk::token(100));
    second.refuses(Talk::token(-1));
}

TEST(ProtocolCheck, nothing_is_computed_before_go) {
    Talk talk;
    talk.prepared();
    talk.refuses(Talk::token(1));
    talk.refuses(Talk::request_end(0));
}

TEST(ProtocolCheck, a_prompt_that_cannot_be_is_refused) {
    Talk talk;
    talk.check.sent(Talk::prepare());
    talk.refuses(Prepared{1, {}, 9, 4});
    talk.refuses(Prepared{1, std::vector<std::int32_t>(65, 1), 9, 4});
    talk.refuses(Prepared{1, {1}, 9, 0});
    talk.refuses(Prepared{1, {1}, 9, 65});
}

TEST(ProtocolCheck, seed_and_max_tokens_are_those_that_were_asked) {
    Talk talk;
    Prepare prepare = Talk::prepare();
    prepare.sampling.seed = 9;
    prepare.sampling.max_tokens = 4;
    talk.check.sent(prepare);
    talk.refuses(Prepared{1, {1}, 8, 4});
    talk.refuses(Prepared{1, {1}, 9, 5});
    talk.check.received(Prepared{1, {1}, 9, 4});
}

TEST(ProtocolCheck, choices_exist_and_end_once) {
    Talk talk;
    talk.running(2);
    talk.refuses(Talk::token(1, 2));
    talk.refuses(Talk::token(1, -1));
    talk.check.received(Talk::end(1));
    talk.refuses(Talk::token(1, 1));
    talk.refuses(Talk::end(1));
    talk.refuses(Talk::request_end(0));  // choice 0 has not ended
}

TEST(ProtocolCheck, more_tokens_than_max_tokens_are_refused) {
    Talk talk;
    talk.running();
    for (int i = 0; i < 4; ++i)
        talk.check.received(Talk::token(1));
    talk.refuses(Talk::token(1));
}

TEST(ProtocolCheck, log_probabilities_are_those_that_were_asked) {
    Talk talk;
    talk.running();
    Token token = Talk::token(1);
    token.logprobs = Logprobs{{1, -1.0F, "a"}, {}};
    talk.refuses(token);

    Talk asked;
    Prepare prepare = Talk::prepare();
    prepare.sampling.top_logprobs = 1;
    asked.check.sent(prepare);
    asked.check.received(Prepared{1, {1}, 9, 4});
    asked.check.sent(Go{1});
    asked.refuses(Talk::token(1));
    token.logprobs->top = {{1, -1.0F, "a"}, {2, -2.0F, "b"}};
    asked.refuses(token);
    token.logprobs->top = {{100, -1.0F, "a"}};
    asked.refuses(token);
    token.logprobs->top = {{2, -1.0F, "a"}};
    asked.check.received(token);
}

TEST(ProtocolCheck, counts_add_up) {
    Talk talk;
    talk.running();
    talk.check.received(Talk::token(1));
    talk.check.received(Talk::end());
    talk.refuses(Talk::request_end(2));
    RequestEnd end = Talk::request_end(1);
    end.prompt_tokens = 4;
    talk.refuses(end);
    end = Talk::request_end(1);
    end.cached_tokens = 4;
    talk.refuses(end);
    talk.check.received(Talk::request_end(1));
}

TEST(ProtocolCheck, cancelled_is_only_what_was_cancelled) {
    Talk talk;
    talk.running();
    ChoiceEnd end = Talk::end();
    end.reason = EndReason::cancelled;
    talk.refuses(end);
    Talk second;
    second.running();
    EXPECT_TRUE(second.check.sent(Cancel{1}));
    EXPECT_FALSE(second.check.sent(Cancel{1}));
    second.check.received(Talk::token(1));  // was on its way
    second.check.received(end);
    second.check.received(Talk::request_end(1));
    EXPECT_FALSE(second.check.sent(Cancel{1}));
}

TEST(ProtocolCheck, a_request_that_is_cancelled_before_go_ends_alone) {
    Talk talk;
    talk.check.sent(Talk::prepare());
    EXPECT_TRUE(talk.check.sent(Cancel{1}));
    talk.check.received(Prepared{1, {1, 2, 3}, 9, 4});
    talk.check.received(Talk::request_end(0));
    EXPECT_EQ(talk.check.n_open(), 0U);
}

TEST(ProtocolCheck, answers_are_of_the_kind_that_was_asked) {
    Talk talk;
    talk.check.sent(Tokenize{1, TextPrompt{"a"}});
    talk.refuses(Prepared{1, {1}, 9, 4});
    talk.refuses(Counters{1, {}});
    talk.refuses(Tokenized{1, {100}, ""});
    talk.check.received(Tokenized{1, {1}, ""});
    talk.check.sent(Embed{2, "t", {TextPrompt{"a"}}});
    talk.refuses(Embedded{2, {{1.0F}}, 1});
    talk.refuses(Embedded{2, {}, 1});
    talk.check.received(Embedded{2, {{1.0F, 2.0F}}, 1});
    talk.check.sent(AskCounters{3});
    talk.refuses(Refused{3, RefusalKind::invalid, "", ""});
    talk.check.received(Counters{3, {{"steps", 1.0}}});
    talk.check.sent(AskLive{4, std::string(64, '0')});
    talk.refuses(Refused{4, RefusalKind::failed, "", ""});
    talk.refuses(Live{4, "0"});
    talk.check.received(Live{4, std::string(64, '0')});
    talk.check.sent(AskReplay{5, "{}"});
    talk.refuses(Replayed{5, "perfect", 0});
    talk.refuses(Replayed{5, "token", -1});
    talk.refuses(Live{5, std::string(64, '0')});
    talk.check.received(Replayed{5, "token", 3});
    talk.check.sent(AskReplay{6, "{}"});
    talk.check.received(Refused{6, RefusalKind::failed, "", "no memory"});
}

TEST(ProtocolCheckDeathTest, the_front_keeps_its_own_order) {
    Talk talk;
    talk.prepared();
    EXPECT_DEATH(talk.check.sent(Talk::prepare()), "id > last_id_");
    EXPECT_DEATH(talk.check.sent(Go{2}), "assertion failed");
    talk.check.sent(Drain{});
    EXPECT_DEATH(talk.check.sent(AskCounters{5}), "draining_");
}

}  // namespace
}  // namespace etalon::wire

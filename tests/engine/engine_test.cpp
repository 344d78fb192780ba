// SPDX-License-Identifier: Apache-2.0
// The engine on the tiny model: tenants, choices, cancels, stops, seeds, errors, proposals.
#include "engine/engine.h"

#include <algorithm>
#include <gtest/gtest.h>

#include "engine/alone.h"
#include "engine/limits.h"
#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

constexpr EngineOptions kOptions{.n_pages = 16, .batch_tokens = 64, .sequences_max = 4};

Request ask(const std::string& tenant, int n_prompt, int max_tokens) {
    Request request;
    request.tenant = tenant;
    for (int i = 0; i < n_prompt; ++i)
        request.prompt.push_back(tiny_byte(static_cast<char>('a' + i * i % 13)));
    request.max_tokens = max_tokens;
    request.sampling.temperature = 1.0F;
    request.seed = 7;
    request.ignore_eos = true;
    return request;
}

/// What came of one request.
struct Outcome {
    std::vector<std::vector<std::int32_t>> tokens;  ///< by choice
    std::vector<std::string> texts;
    std::vector<ChoiceFinished> ends;
    Usage usage;
};

class Desk {
  public:
    explicit Desk(const EngineOptions& options = kOptions)
        : engine(tiny_model().transformer, tiny_tokenizer(), options) {}

    RequestId submit(const Request& request) {
        const auto submitted = engine.submit(request, now_);
        const RequestId id = std::get<Accepted>(submitted).id;
        Outcome& outcome = outcomes[id];
        outcome.tokens.resize(static_cast<std::size_t>(request.n));
        outcome.texts.resize(static_cast<std::size_t>(request.n));
        return id;
    }
    void step() {
        now_ += Time(1000);
        for (const Event& event : engine.step(now_))
            std::visit([&](const auto& e) { take(e); }, event);
    }
    Outcome& run(const Request& request) {
        const RequestId id = submit(request);
        while (engine.has_work())
            step();
        return outcomes[id];
    }

    Engine engine;
    std::map<RequestId, Outcome> outcomes;

  private:
    void take(const TokenEvent& e) {
        const auto i = static_cast<std::size_t>(e.choice);
        outcomes[e.request].tokens[i].push_back(e.token);
        outcomes[e.request].texts[i] += e.text;
    }
    void take(const ChoiceFinished& e) {
        outcomes[e.request].texts[static_cast<std::size_t>(e.choice)] += e.text;
        outcomes[e.request].ends.push_back(e);
    }
    void take(const PromptLogprobs&) { FAIL() << "nobody asked"; }
    void take(const EmbeddingEvent&) { FAIL() << "nobody asked"; }
    void take(const RequestFinished& e) { outcomes[e.request].usage = e.usage; }

    Time now_{};
};

TEST(Engine, a_prefix_serves_its_tenant_and_key_only) {
    Desk desk;
    Request request = ask("ann", 200, 2);
    request.speculate = false;
    const Usage cold = desk.run(request).usage;
    EXPECT_EQ(cold.cached_tokens, 0);
    EXPECT_EQ(cold.computed_tokens, 201);
    const Usage warm = desk.run(request).usage;
    EXPECT_EQ(warm.cached_tokens, 192);
    EXPECT_EQ(warm.computed_tokens, 201 - 192);
    request.tenant = "bob";  // computes as much as if ann had never been there
    const Usage other = desk.run(request).usage;
    EXPECT_EQ(other.cached_tokens, cold.cached_tokens);
    EXPECT_EQ(other.computed_tokens, cold.computed_tokens);
    request.tenant = "ann";
    request.cache_key = "narrow";
    EXPECT_EQ(desk.run(request).usage.computed_tokens, cold.computed_tokens);
}

TEST(Engine, what_is_forgotten_serves_nobody) {
    Desk desk;
    Request request = ask("ann", 200, 2);
    request.speculate = false;
    const Outcome before = desk.run(request);
    desk.engine.forget_prefixes();
    EXPECT_EQ(desk.engine.counters().pages_cached, 0);
    const Outcome after = desk.run(request);
    EXPECT_EQ(after.usage.cached_tokens, 0);
    EXPECT_EQ(after.tokens, before.tokens);
    EXPECT_EQ(desk.run(request).usage.cached_tokens, 192);  // of what came after

    // A request that runs meanwhile gives its own answer and leaves nothing.
    const RequestId running = desk.submit(request);
    desk.step();
    desk.engine.forget_prefixes();
    while (desk.engine.has_work())
        desk.step();
    EXPECT_EQ(desk.outcomes[running].tokens, before.tokens);
    EXPECT_EQ(desk.engine.counters().pages_cached, 0);
    EXPECT_EQ(desk.engine.counters().pages_free, desk.engine.counters().pages_total);
}

TEST(Engine, choices_share_the_pages_of_the_prompt) {
    Desk desk;
    Request request = ask("ann", 150, 3);
    request.n = 4;
    const Outcome& outcome = desk.run(request);
    ASSERT_EQ(outcome.ends.size(), 4U);
    EXPECT_EQ(outcome.usage.cached_tokens, 0);
    EXPECT_EQ(desk.engine.counters().shared_pages, 3U * 2U);
    EXPECT_EQ(outcome.usage.answer_tokens, 12);
    for (int choice = 0; choice < 4; ++choice) {
        const auto i = static_cast<std::size_t>(choice);
        EXPECT_EQ(outcome.tokens[i], run_alone(request, 7, choice).tokens);
    }
    EXPECT_NE(outcome.tokens[0], outcome.tokens[1]);
}

TEST(Engine, a_cancel_frees_all_pages_at_once) {
    Desk desk;
    Request request = ask("ann", 150, 100);
    request.n = 3;
    const RequestId id = desk.submit(request);
    for (int i = 0; i < 8; ++i)
        desk.step();
    EXPECT_GT(desk.engine.counters().running, 0);
    EXPECT_TRUE(desk.engine.cancel(id, {}));
    EXPECT_FALSE(desk.engine.cancel(id, {}));
    const Counters now = desk.engine.counters();
    EXPECT_EQ(now.running + now.waiting + now.requests, 0);
    EXPECT_EQ(now.pages_free + now.pages_cached, now.pages_total);
    EXPECT_TRUE(desk.engine.has_work());  // its last events
    desk.step();
    EXPECT_FALSE(desk.engine.has_work());
    const Outcome& outcome = desk.outcomes[id];
    ASSERT_EQ(outcome.ends.size(), 3U);
    for (const ChoiceFinished& end : outcome.ends)
        EXPECT_EQ(end.reason, FinishReason::cancelled);
    EXPECT_FALSE(desk.engine.cancel(12345, {}));
}

TEST(Engine, a_pass_under_way_ends_before_a_cancel_and_a_rest) {
    EngineOptions options = kOptions;
    options.overlap = true;
    Desk plain;
    const Outcome whole = plain.run(ask("ann", 20, 30));
    Desk desk(options);
    const RequestId kept = desk.submit(ask("ann", 20, 30));
    const RequestId cancelled = desk.submit(ask("bob", 30, 100));
    for (int i = 0; i < 5; ++i)
        desk.step();
    const std::size_t told = desk.outcomes[kept].tokens[0].size();
    desk.engine.rest();  // the next token is there, and no pass is under way
    desk.engine.rest();
    desk.step();
    EXPECT_GE(desk.outcomes[kept].tokens[0].size(), told + 2);
    EXPECT_TRUE(desk.engine.cancel(cancelled, {}));
    while (desk.engine.has_work())
        desk.step();
    EXPECT_EQ(desk.outcomes[kept].tokens, whole.tokens);
    EXPECT_EQ(desk.outcomes[kept].ends[0].digest, whole.ends[0].digest);
    const Outcome& stopped = desk.outcomes[cancelled];
    ASSERT_EQ(stopped.ends.size(), 1U);
    EXPECT_EQ(stopped.ends[0].reason, FinishReason::cancelled);
    EXPECT_EQ(stopped.ends[0].n_tokens, static_cast<int>(stopped.tokens[0].size()));
}

TEST(Engine, draws_a_seed_and_says_which) {
    Desk one;
    Desk two;
    Request request = ask("ann", 10, 20);
    request.seed.reset();
    const auto drawn = std::get<Accepted>(one.engine.submit(request, {})).seed;
    EXPECT_EQ(std::get<Accepted>(two.engine.submit(request, {})).seed, drawn);  // same entropy
    EXPECT_NE(std::get<Accepted>(one.engine.submit(request, {})).seed, drawn);
    request.seed = 99;
    EXPECT_EQ(std::get<Accepted>(one.engine.submit(request, {})).seed, 99U);
    Desk other({.n_pages = 16, .batch_tokens = 64, .sequences_max = 4, .entropy = 5});
    request.seed.reset();
    EXPECT_NE(std::get<Accepted>(other.engine.submit(request, {})).seed, drawn);
}

TEST(Engine, a_stop_token_ends_without_text) {
    Desk desk;
    Request request = ask("ann", 20, 30);
    const AloneChoice whole = run_alone(request, 7, 0);
    request.stop_tokens = {whole.tokens[10]};
    const Outcome& outcome = desk.run(request);
    ASSERT_EQ(outcome.ends.size(), 1U);
    EXPECT_EQ(outcome.ends[0].reason, FinishReason::stop);
    EXPECT_EQ(outcome.ends[0].stop_token, whole.tokens[10]);
    EXPECT_EQ(outcome.tokens[0].back(), whole.tokens[10]);
    EXPECT_LE(outcome.tokens[0].size(), 11U);
    EXPECT_EQ(outcome.ends[0].digest, whole.digest(outcome.tokens[0].size()));
}

TEST(Engine, min_tokens_draw_no_end) {
    Desk desk;
    Request request = ask("ann", 20, 12);
    request.ignore_eos = false;
    request.sampling.logit_bias = {{kTinyEnd, 1000.0F}};
    EXPECT_EQ(desk.run(request).tokens[0], (std::vector<std::int32_t>{kTinyEnd}));
    request.min_tokens = 5;
    const auto tokens = desk.run(request).tokens[0];
    ASSERT_EQ(tokens.size(), 6U);
    EXPECT_EQ(std::count(tokens.begin(), tokens.end(), kTinyEnd), 1);
    EXPECT_EQ(tokens.back(), kTinyEnd);
    request.ignore_eos = true;
    EXPECT_EQ(desk.run(request).tokens[0], std::vector<std::int32_t>(12, kTinyEnd));
}

/// Allows one token, by the length of the answer.
class Script final : public TokenMask {
  public:
    void restrict(std::span<const std::int32_t> answer, std::span<bool> allowed) const override {
        std::fill(allowed.begin(), allowed.end(), false);
        if (answer.size() < 3) allowed[40 + answer.size()] = true;
    }
};

TEST(Engine, a_mask_leaves_what_it_allows) {  // ERR-3
    Desk desk;
    Request request = ask("ann", 20, 3);
    request.mask = std::make_shared<Script>();
    EXPECT_EQ(desk.run(request).tokens[0], (std::vector<std::int32_t>{40, 41, 42}));
    request.max_tokens = 10;  // then nothing is allowed
    const Outcome& outcome = desk.run(request);
    EXPECT_EQ(outcome.ends[0].reason, FinishReason::error);
    EXPECT_NE(outcome.ends[0].error.find("token 23"), std::string::npos);
}

TEST(Engine, a_failed_prompt_token_ends_its_request_alone) {  // ERR-1
    Desk desk;
    Request bad = ask("ann", 200, 5);
    bad.prompt[70] = kTinyPoison;
    const Request good = ask("ann", 200, 5);
    const RequestId bad_id = desk.submit(bad);
    const RequestId good_id = desk.submit(good);
    while (desk.engine.has_work())
        desk.step();
    EXPECT_EQ(desk.outcomes[bad_id].ends[0].reason, FinishReason::error);
    EXPECT_NE(desk.outcomes[bad_id].ends[0].error.find("token 70"), std::string::npos);
    EXPECT_TRUE(desk.outcomes[bad_id].tokens[0].empty());
    EXPECT_EQ(desk.outcomes[good_id].tokens[0], run_alone(good, 7, 0).tokens);
    // Its page with the failed token is in no cache: the same request fails again.
    EXPECT_EQ(desk.run(bad).ends[0].reason, FinishReason::error);
}

TEST(Engine, a_prediction_that_is_right_saves_steps) {
    Request request = ask("ann", 20, 60);
    request.sampling.temperature = 0.0F;
    request.speculate = false;
    Desk plain;
    const auto tokens = plain.run(request).tokens[0];
    const auto n_plain = plain.engine.counters().steps;
    request.speculate = true;
    request.prediction = tokens;
    Desk fast;
    const Outcome& outcome = fast.run(request);
    EXPECT_EQ(outcome.tokens[0], tokens);
    EXPECT_LT(fast.engine.counters().steps * 3, n_plain);
    EXPECT_GT(outcome.usage.accepted_tokens, 40);
    request.prediction.assign(60, kTinyPoison);  // a wrong one that even fails
    Desk wrong;
    EXPECT_EQ(wrong.run(request).tokens[0], tokens);
}

TEST(Engine, refuses_what_the_queue_cannot_hold) {
    Desk desk;
    Request request = ask("ann", 300, 1);
    request.n = kChoicesMax;
    request.prediction.assign(static_cast<std::size_t>(kTinyContext), 1);
    for (;;) {
        const auto submitted = desk.engine.submit(request, {});
        if (const auto* refusal = std::get_if<Refusal>(&submitted)) {
            EXPECT_EQ(refusal->error.code(), ExitCode::try_later);
            break;
        }
    }
    const auto n = static_cast<std::int64_t>(desk.engine.counters().requests);
    EXPECT_EQ(n, kHeldTokensMax / ((kChoicesMax + 1) * 300 + kTinyContext));
}

TEST(Engine, options_that_contradict_are_refused) {
    const auto make = [](const EngineOptions& options) {
        const Engine engine(tiny_model().transformer, tiny_tokenizer(), options);
    };
    EXPECT_THROW(make({.n_pages = 0}), Error);
    EXPECT_THROW(make({.n_pages = 4, .batch_tokens = 100000}), Error);
    EXPECT_THROW(make({.n_pages = 4, .batch_tokens = 10, .sequences_max = 6}), Error);
    EXPECT_THROW(make({.n_pages = 4, .batch_tokens = 10, .sequences_max = 0}), Error);
    EXPECT_THROW(make({.n_pages = 4, .draft_tokens_max = -1}), Error);
}

TEST(Engine, queued_time_is_of_the_clock_that_is_given) {
    Desk desk({.n_pages = 16, .batch_tokens = 64, .sequences_max = 1});
    const RequestId first = desk.submit(ask("ann", 10, 5));
    const RequestId second = desk.submit(ask("ann", 10, 5));
    while (desk.engine.has_work())
        desk.step();
    EXPECT_EQ(desk.outcomes[first].usage.queued, Time(1000));
    EXPECT_GT(desk.outcomes[second].usage.queued, Time(1000));
}

}  // namespace
}  // namespace etalon::engine

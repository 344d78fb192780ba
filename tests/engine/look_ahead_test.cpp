// SPDX-License-Identifier: Apache-2.0
// Passes that start before the tokens of the one ahead are known: the events of each choice are
// those of an engine that waits, and passes do follow each other wherever they may.
#include "engine/look_ahead.h"

#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/cuda.h"
#include "engine/engine.h"
#include "engine/following_device.h"
#include "engine/simulator.h"
#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

EngineOptions options_of(bool overlap) {
    EngineOptions options{.n_pages = 64, .batch_tokens = 64, .sequences_max = 16};
    options.overlap = overlap;
    return options;
}

Request ask(int number, int n_prompt, int max_tokens) {
    Request request;
    request.tenant = "ann";
    for (int i = 0; i < n_prompt; ++i)
        request.prompt.push_back(tiny_byte(static_cast<char>('a' + (number + i * i) % 13)));
    request.max_tokens = max_tokens;
    request.sampling.temperature = 1.0F;
    request.seed = static_cast<std::uint64_t>(number);
    request.ignore_eos = true;
    request.speculate = false;
    return request;
}

/// All that an event says of a choice, as text; floats by their bits.
std::string text_of(const TokenEvent& e) {
    std::string text = fmt::format("token {} {:x} '{}'", e.token, e.checksum, e.text);
    if (!e.logprobs) return text;
    text += fmt::format(" {:a}", e.logprobs->logprob);
    for (const auto& [id, logprob] : e.logprobs->top)
        text += fmt::format(" {}:{:a}", id, logprob);
    return text;
}

std::string text_of(const ChoiceFinished& e) {
    return fmt::format("end {} '{}' {} {} '{}' {} {}", static_cast<int>(e.reason), e.text,
                       e.stop_token.value_or(-1), e.stop_string.value_or(1000), e.error, e.n_tokens,
                       to_hex(e.digest));
}

using Told = std::map<std::pair<RequestId, int>, std::vector<std::string>>;

struct Outcome {
    Told told;  ///< by request and choice
    std::map<RequestId, Usage> usage;
    Counters counters;
};

void take(const Event& event, Outcome& outcome) {
    if (const auto* token = std::get_if<TokenEvent>(&event)) {
        outcome.told[{token->request, token->choice}].push_back(text_of(*token));
    } else if (const auto* end = std::get_if<ChoiceFinished>(&event)) {
        outcome.told[{end->request, end->choice}].push_back(text_of(*end));
    } else if (const auto* finished = std::get_if<RequestFinished>(&event)) {
        outcome.usage[finished->request] = finished->usage;
    } else if (const auto* prompt = std::get_if<PromptLogprobs>(&event)) {
        for (std::size_t i = 0; i < prompt->tokens.size(); ++i) {
            outcome.told[{prompt->request, -1}].push_back(
                fmt::format("{} {:a}", prompt->tokens[i], prompt->logprobs[i].logprob));
        }
    } else if (const auto* vector = std::get_if<EmbeddingEvent>(&event)) {
        for (const float value : vector->vector)
            outcome.told[{vector->request, -1}].push_back(fmt::format("{:a}", value));
    }
}

/// Runs the requests on an engine of its own, a few of them from the start and the others one by
/// one, and cancels the one at `cancelled` after some steps.
Outcome run(TinyModel& model, const EngineOptions& options, const std::vector<Request>& requests,
            std::size_t n_first, std::size_t cancelled = SIZE_MAX) {
    constexpr int kStepsBetween = 7;
    Outcome outcome;
    Engine engine(model.transformer, tiny_tokenizer(), options);
    std::vector<RequestId> ids;
    const auto submit = [&] {
        ids.push_back(std::get<Accepted>(engine.submit(requests[ids.size()], {})).id);
    };
    while (ids.size() < n_first)
        submit();
    for (int i = 1; engine.has_work() || ids.size() < requests.size(); ++i) {
        if (ids.size() < requests.size() && i % kStepsBetween == 0) submit();
        if (i == 3 * kStepsBetween && cancelled < ids.size()) engine.cancel(ids[cancelled], {});
        for (const Event& event : engine.step({}))
            take(event, outcome);
    }
    outcome.counters = engine.counters();
    EXPECT_EQ(outcome.counters.pages_free + outcome.counters.pages_cached,
              outcome.counters.pages_total);
    return outcome;
}

struct Following {
    Following() : model(std::make_unique<FollowingDevice>()) {}
    FollowingDevice& device() { return static_cast<FollowingDevice&>(*model.device); }

    TinyModel model;
};

/// Forbids the token that was drawn last.
class NotTwice final : public TokenMask {
  public:
    void restrict(std::span<const std::int32_t> answer, std::span<bool> allowed) const override {
        if (!answer.empty()) allowed[static_cast<std::size_t>(answer.back())] = false;
    }
};

/// One of each kind.
std::vector<Request> mixed_requests() {
    std::vector<Request> all;
    const auto add = [&](int n_prompt, int max_tokens) -> Request& {
        return all.emplace_back(ask(static_cast<int>(all.size()), n_prompt, max_tokens));
    };
    add(20, 90);
    add(3, 1);
    add(130, 40).sampling.temperature = 0.0F;
    add(10, 60).stop_tokens = {tiny_byte('e'), tiny_byte('k'), 31, 77, 120, 200};
    add(10, 60).stop_strings = {"a", "b", "END", "z"};
    add(40, 25).n = 3;
    add(5, 30).top_logprobs = 3;
    Request& early = add(12, 20);
    early.ignore_eos = false;
    early.min_tokens = 6;
    early.sampling.logit_bias = {{kTinyEnd, 1000.0F}};
    Request& poisoned = add(8, 40);  // one of its own tokens fails: ERR-1
    poisoned.sampling.logit_bias = {{kTinyPoison, 3.0F}};
    add(15, 30).sampling.repetition_penalty = 1.3F;
    add(15, 30).sampling.frequency_penalty = 0.4F;
    add(15, 30).sampling.presence_penalty = 0.7F;
    add(15, 20).mask = std::make_shared<NotTwice>();
    Request& read = add(70, 10);
    read.prompt_logprobs = true;
    read.top_logprobs = 2;
    Request& vector = add(70, 1);
    vector.embed = true;
    vector.max_tokens.reset();
    add(20, 50).sampling.top_p = 0.8F;
    return all;
}

TEST(LookAhead, no_event_of_a_choice_changes) {
    const std::vector<Request> requests = mixed_requests();
    for (const std::size_t n_first : {std::size_t{1}, requests.size() / 2, requests.size()}) {
        const Outcome waits = run(tiny_model(), options_of(false), requests, n_first);
        Following following;
        const Outcome ahead = run(following.model, options_of(true), requests, n_first);
        EXPECT_EQ(ahead.told, waits.told) << n_first;
        EXPECT_GT(following.device().n_followers, 20) << n_first;
        EXPECT_GT(following.device().n_not_drawn, 0) << n_first;
        for (const auto& [id, usage] : waits.usage) {
            EXPECT_EQ(ahead.usage.at(id).answer_tokens, usage.answer_tokens);
            EXPECT_EQ(ahead.usage.at(id).computed_tokens, usage.computed_tokens) << id;
        }
        EXPECT_EQ(ahead.counters.computed_tokens, waits.counters.computed_tokens);
        EXPECT_EQ(ahead.counters.sampled_tokens, waits.counters.sampled_tokens);
    }
}

/// The same on a card, whose passes then are recorded ones too.
TEST(LookAhead, no_event_of_a_choice_changes_on_a_card) {
    const auto card = backend::first_usable_card();
    if (!card) GTEST_SKIP() << "no card can be used here";
    std::vector<Request> requests = mixed_requests();
    for (int i = 0; i < 4; ++i)
        requests.push_back(ask(100 + i, 10 + i, 200));
    TinyModel model(backend::make_cuda_backend(*card));
    for (const std::size_t n_first : {std::size_t{1}, requests.size()}) {
        const Outcome waits = run(tiny_model(), options_of(false), requests, n_first);
        EXPECT_EQ(run(model, options_of(true), requests, n_first).told, waits.told) << n_first;
    }
}

TEST(LookAhead, each_request_alone) {
    for (const Request& request : mixed_requests()) {
        const Outcome waits = run(tiny_model(), options_of(false), {request}, 1);
        Following following;
        EXPECT_EQ(run(following.model, options_of(true), {request}, 1).told, waits.told)
            << *request.seed;
    }
}

TEST(LookAhead, every_pass_of_decoding_follows_the_one_before) {
    Following following;
    constexpr int kAnswer = 30;
    std::vector<Request> requests;
    for (int i = 0; i < 4; ++i)
        requests.push_back(ask(i, 10, kAnswer - i));
    const Outcome outcome = run(following.model, options_of(true), requests, requests.size());
    EXPECT_EQ(following.device().n_passes, kAnswer);
    EXPECT_EQ(following.device().n_followers, kAnswer - 1);
    EXPECT_EQ(outcome.counters.steps, static_cast<std::uint64_t>(kAnswer));
}

TEST(LookAhead, choices_start_as_soon_as_their_prompt_is_there) {
    Following following;
    constexpr int kAnswer = 30;
    Request request = ask(1, 100, kAnswer);
    request.n = 4;
    EngineOptions options = options_of(true);
    options.batch_tokens = 256;
    (void)run(following.model, options, {request}, 1);
    EXPECT_EQ(following.device().n_passes, 1 + kAnswer);
    EXPECT_EQ(following.device().n_followers, kAnswer - 1);
}

TEST(LookAhead, what_reads_the_newest_token_waits_for_it) {
    std::vector<Request> all(5, ask(1, 10, 20));
    all[0].sampling.repetition_penalty = 0.9F;
    all[1].sampling.frequency_penalty = 0.1F;
    all[2].sampling.presence_penalty = -0.1F;
    all[3].mask = std::make_shared<NotTwice>();
    all[4].embed = true;
    all[4].max_tokens.reset();
    for (std::size_t i = 0; i < all.size(); ++i) {
        Following following;
        (void)run(following.model, options_of(true), {all[i]}, 1);
        EXPECT_EQ(following.device().n_followers, 0) << i;
        // Beside another request that could go on alone.
        Following both;
        (void)run(both.model, options_of(true), {ask(2, 10, 20), all[i]}, 2);
        EXPECT_LE(both.device().n_followers, i == 4 ? 19 : 0) << i;
    }
    Following plain;
    EngineOptions waits = options_of(false);
    (void)run(plain.model, waits, {ask(1, 10, 20)}, 1);
    EXPECT_EQ(plain.device().n_followers, 0);
}

TEST(LookAhead, proposals_come_all_the_same) {
    Request request = ask(1, 20, 60);
    request.sampling.temperature = 0.0F;
    std::vector<std::string> tokens;
    Engine plain(tiny_model().transformer, tiny_tokenizer(), options_of(false));
    (void)plain.submit(request, {});
    std::vector<std::int32_t> answer;
    while (plain.has_work()) {
        for (const Event& event : plain.step({})) {
            if (const auto* token = std::get_if<TokenEvent>(&event)) answer.push_back(token->token);
        }
    }
    request.speculate = true;
    request.prediction.assign(answer.begin() + 20, answer.end());
    const Outcome waits = run(tiny_model(), options_of(false), {request}, 1);
    Following following;
    const Outcome ahead = run(following.model, options_of(true), {request}, 1);
    EXPECT_EQ(ahead.told, waits.told);
    EXPECT_GT(ahead.counters.accepted_tokens, 20U);
    EXPECT_GT(following.device().n_followers, 5);
}

TEST(LookAhead, a_cancel_beside_answers_that_go_on) {
    std::vector<Request> requests{ask(1, 20, 60), ask(11, 30, 100), ask(3, 5, 22), ask(4, 5, 21)};
    requests[1].n = 2;
    for (Request& request : requests)  // whose embedding fails
        request.sampling.logit_bias = {{kTinyPoison, -1000.0F}};
    const Outcome waits = run(tiny_model(), options_of(false), requests, 4);
    Following following;
    Outcome ahead = run(following.model, options_of(true), requests, 4, 1);
    for (int choice = 0; choice < 2; ++choice) {
        std::vector<std::string> told = ahead.told[{2, choice}];
        EXPECT_NE(told.back().find("end 2 "), std::string::npos) << told.back();
        told.pop_back();
        const std::vector<std::string>& whole = waits.told.at({2, choice});
        ASSERT_GT(told.size(), 10U);
        EXPECT_TRUE(std::equal(told.begin(), told.end(), whole.begin()));
        ahead.told[{2, choice}] = whole;
    }
    EXPECT_EQ(ahead.told, waits.told);
}

TEST(LookAhead, a_pass_for_nobody_is_left_alone_and_ended_by_rest) {
    Request request = ask(1, 10, 100);
    request.ignore_eos = false;
    request.min_tokens = 9;
    request.sampling.logit_bias = {{kTinyEnd, 1000.0F}};
    request.seed = 3;
    Following following;
    Engine engine(following.model.transformer, tiny_tokenizer(), options_of(true));
    for (int round = 0; round < 3; ++round) {
        Outcome outcome;
        (void)engine.submit(request, {});
        while (engine.has_work()) {
            for (const Event& event : engine.step({}))
                take(event, outcome);
        }
        EXPECT_EQ(outcome.usage.begin()->second.answer_tokens, 10);
        EXPECT_EQ(outcome.usage.begin()->second.computed_tokens, 19)
            << "those in vain do not count";
        engine.forget_prefixes();
        EXPECT_EQ(engine.counters().pages_free, engine.counters().pages_total);
        if (round == 1) continue;  // then the next request comes upon it
        engine.rest();
        EXPECT_TRUE(engine.step({}).empty());
    }
}

TEST(LookAhead, who_waits_gets_a_place) {
    EngineOptions options = options_of(true);
    options.sequences_max = 2;
    Following following;
    Engine engine(following.model.transformer, tiny_tokenizer(), options);
    for (int i = 0; i < 3; ++i)
        (void)engine.submit(ask(i, 10, 200), {});
    for (int i = 0; i < 10; ++i)
        (void)engine.step({});
    EXPECT_GT(following.device().n_followers, 5) << "nobody can start: looking ahead is free";
    Request other = ask(4, 10, 5);
    other.tenant = "bob";
    const RequestId id = std::get<Accepted>(engine.submit(other, {})).id;
    bool ended = false;
    for (int i = 0; i < 20; ++i) {
        for (const Event& event : engine.step({})) {
            const auto* end = std::get_if<RequestFinished>(&event);
            ended = ended || (end != nullptr && end->request == id);
        }
    }
    EXPECT_TRUE(ended) << "a tenant with nothing running gets a place from one with several";
}

#if defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kSchedules = 50;
constexpr int kCatalogueSize = 100;
#else
constexpr std::uint64_t kSchedules = 400;
constexpr int kCatalogueSize = 200;
#endif

/// Small pools, preemptions, cancels, speculation: every answer is the one alone.
TEST(LookAhead, random_schedules) {
    constexpr std::uint64_t kCatalogueSeed = 2;
    const Catalogue catalogue(kCatalogueSeed, kCatalogueSize);
    Following following;
    std::uint64_t n_preemptions = 0;
    std::uint64_t n_cancelled = 0;
    std::uint64_t n_accepted = 0;
    for (std::uint64_t seed = 1; seed <= kSchedules; ++seed) {
        const ScheduleResult result = run_schedule(catalogue, seed, following.model, true);
        ASSERT_EQ(result.mismatches, "") << "schedule " << seed;
        n_preemptions += result.counters.preemptions;
        n_cancelled += result.counters.cancelled;
        n_accepted += result.counters.accepted_tokens;
    }
    const FollowingDevice& device = following.device();
    fmt::print("{} of {} passes followed, {} preemptions, {} cancels, {} accepted\n",
               device.n_followers, device.n_passes, n_preemptions, n_cancelled, n_accepted);
    EXPECT_GT(device.n_followers, device.n_passes / 10);
    EXPECT_GT(n_preemptions, 0U);
    EXPECT_GT(n_cancelled, 0U);
    EXPECT_GT(n_accepted, 0U);
}

}  // namespace
}  // namespace etalon::engine

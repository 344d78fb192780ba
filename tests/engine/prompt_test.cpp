// SPDX-License-Identifier: Apache-2.0
// What is read of prompts: log-probabilities (SMP-11, SMP-12) and vectors (VEC-1 to VEC-3). Equal
// to the reference backend token by token, whatever runs beside them, in whatever pieces, with a
// cold or a warm cache, and after a preemption.
#include <algorithm>
#include <gtest/gtest.h>
#include <map>
#include <random>

#include "engine/engine.h"
#include "engine/limits.h"
#include "engine/tiny_model.h"
#include "exact/logprobs.h"
#include "exact/pool.h"
#include "model/session.h"

namespace etalon::engine {
namespace {

std::vector<std::int32_t> random_prompt(std::mt19937& random, int n) {
    std::vector<std::int32_t> prompt;
    for (int i = 0; i < n; ++i)
        prompt.push_back(tiny_byte(static_cast<char>('a' + random() % 26)));
    return prompt;
}

/// The log-probabilities of a prompt, from one pass of a session on the reference.
std::vector<TokenLogprobs> logprobs_alone(const std::vector<std::int32_t>& prompt, int n_top) {
    std::vector<TokenLogprobs> told(1);
    model::Session session(tiny_reference().transformer, static_cast<int>(prompt.size()));
    session.on_logits = [&](int position, std::span<const float> logits) {
        const auto next = static_cast<std::size_t>(position) + 1;
        if (next == prompt.size()) return;
        const exact::Logprobs all(logits);
        told.push_back({all.of(prompt[next]), all.top(n_top)});
    };
    session.append(prompt, 0, model::LogitsWanted::all);
    return told;
}

/// The vector of a prompt, from the reference, one token a pass.
std::vector<float> vector_alone(const std::vector<std::int32_t>& prompt, bool normalize) {
    model::Transformer& transformer = tiny_reference().transformer;
    const int n_pages = pages_for(static_cast<std::int64_t>(prompt.size()));
    const auto kv = transformer.make_kv_cache(n_pages);
    std::vector<std::vector<std::int32_t>> tables(1);
    for (int page = 0; page < n_pages; ++page)
        tables[0].push_back(page);
    exact::MeanPool pool(static_cast<std::size_t>(transformer.config().dim));
    const auto none = transformer.device().make_floats(1);
    for (std::size_t i = 0; i < prompt.size(); ++i) {
        const auto position = static_cast<std::int32_t>(i);
        const std::int32_t sequence = 0;
        std::uint8_t failed = 0;
        const backend::Batch batch{
            {&prompt[i], 1}, {&position, 1}, {&sequence, 1}, tables, {&failed, 1}};
        transformer.forward(batch, {}, *kv, *none);
        pool.add(transformer.hidden_states(batch));
        EXPECT_EQ(failed, 0);
    }
    return pool.finish(normalize).value();
}

Request ask(std::vector<std::int32_t> prompt) {
    Request request;
    request.tenant = "t";
    request.prompt = std::move(prompt);
    request.max_tokens = 4;
    request.seed = 7;
    request.ignore_eos = true;
    request.sampling.logit_bias = {{kTinyPoison, -1000.0F}};
    return request;
}

struct Told {
    std::vector<std::int32_t> tokens;
    std::vector<TokenLogprobs> logprobs;
    std::vector<float> vector;
    int n_sampled = 0;
    std::string error;
    Usage usage;
};

class PromptDesk {
  public:
    explicit PromptDesk(const EngineOptions& options)
        : engine(tiny_model().transformer, tiny_tokenizer(), options) {}

    RequestId submit(const Request& request) {
        return std::get<Accepted>(engine.submit(request, Time())).id;
    }
    void run() {
        while (engine.has_work()) {
            for (const Event& event : engine.step(Time()))
                std::visit([&](const auto& e) { take(e); }, event);
        }
    }
    Told run(const Request& request) {
        const RequestId id = submit(request);
        run();
        return told[id];
    }

    Engine engine;
    std::map<RequestId, Told> told;

  private:
    void take(const PromptLogprobs& e) {
        Told& one = told[e.request];
        EXPECT_EQ(one.n_sampled, 0) << "they come before every token";
        one.tokens.insert(one.tokens.end(), e.tokens.begin(), e.tokens.end());
        one.logprobs.insert(one.logprobs.end(), e.logprobs.begin(), e.logprobs.end());
    }
    void take(const EmbeddingEvent& e) { told[e.request].vector = e.vector; }
    void take(const TokenEvent& e) { ++told[e.request].n_sampled; }
    void take(const ChoiceFinished& e) { told[e.request].error += e.error; }
    void take(const RequestFinished& e) { told[e.request].usage = e.usage; }
};

constexpr EngineOptions kPromptOptions{.n_pages = 16, .batch_tokens = 64, .sequences_max = 4};

void expect_equal(const std::vector<TokenLogprobs>& got, const std::vector<TokenLogprobs>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_EQ(got[i].logprob, wanted[i].logprob) << i;
        ASSERT_EQ(got[i].top, wanted[i].top) << i;
    }
}

TEST(Prompt, SMP_11_logprobs_are_those_of_one_pass_in_any_pieces) {
    std::mt19937 random(1);
    for (const int n : {1, 2, 17, 64, 65, 130, 200}) {
        Request request = ask(random_prompt(random, n));
        request.top_logprobs = 3;
        request.prompt_logprobs = true;
        const auto wanted = logprobs_alone(request.prompt, 3);
        for (const int batch_tokens : {8, 33, 256}) {
            PromptDesk desk({.n_pages = 16,
                             .batch_tokens = batch_tokens,
                             .sequences_max = 4,
                             .draft_tokens_max = 4,
                             .overlap = batch_tokens == 33});
            for (const bool warm : {false, true}) {
                const Told told = desk.run(request);
                ASSERT_EQ(told.tokens, request.prompt) << n << ' ' << batch_tokens << ' ' << warm;
                expect_equal(told.logprobs, wanted);
                EXPECT_EQ(told.usage.cached_tokens, 0);
                EXPECT_EQ(told.n_sampled, 4);
            }
        }
    }
}

TEST(Prompt, VEC_2_vectors_are_those_of_the_reference_in_any_pieces) {
    std::mt19937 random(2);
    for (const int n : {1, 2, 63, 64, 65, 200}) {
        Request request = ask(random_prompt(random, n));
        request.embed = true;
        for (const bool normalize : {true, false}) {
            request.normalize = normalize;
            const auto wanted = vector_alone(request.prompt, normalize);
            for (const int batch_tokens : {8, 33, 256}) {
                PromptDesk desk({.n_pages = 16,
                                 .batch_tokens = batch_tokens,
                                 .sequences_max = 4,
                                 .draft_tokens_max = 4,
                                 .overlap = batch_tokens == 33});
                for (const bool warm : {false, true}) {
                    const Told told = desk.run(request);
                    ASSERT_EQ(told.vector, wanted) << n << ' ' << batch_tokens << ' ' << warm;
                    EXPECT_EQ(told.n_sampled, 0);
                    EXPECT_EQ(told.usage.prompt_tokens, n);
                }
            }
        }
    }
}

TEST(Prompt, random_company_changes_nothing) {
    std::mt19937 random(3);
    int n_preemptions = 0;
    for (int round = 0; round < 12; ++round) {
        PromptDesk desk({.n_pages = 6 + static_cast<int>(random() % 8),
                         .batch_tokens = 40,
                         .sequences_max = 5,
                         .overlap = round % 2 == 0});
        std::map<RequestId, Request> requests;
        for (int i = 0; i < 8; ++i) {
            Request request = ask(random_prompt(random, 1 + static_cast<int>(random() % 150)));
            request.tenant = random() % 2 == 0 ? "a" : "b";
            request.max_tokens = 1 + static_cast<int>(random() % 90);
            if (i % 3 == 0) request.embed = true;
            if (i % 3 == 1) request.prompt_logprobs = true;
            if (i % 3 == 1) request.top_logprobs = 2;
            if (i % 3 == 1 && random() % 2 == 0) request.n = 2;
            if (request.embed) request.max_tokens.reset();
            requests.emplace(desk.submit(request), request);
        }
        desk.run();
        for (const auto& [id, request] : requests) {
            const Told& told = desk.told[id];
            ASSERT_EQ(told.error, "");
            n_preemptions += told.usage.preemptions;
            if (request.embed) {
                ASSERT_EQ(told.vector, vector_alone(request.prompt, true)) << round;
            }
            if (!request.prompt_logprobs) continue;
            ASSERT_EQ(told.tokens, request.prompt) << round;
            expect_equal(told.logprobs, logprobs_alone(request.prompt, 2));
        }
    }
    EXPECT_GT(n_preemptions, 0) << "the test should see some";
}

TEST(Prompt, a_failed_token_ends_it_with_its_position) {
    std::mt19937 random(4);
    PromptDesk desk(kPromptOptions);
    Request request = ask(random_prompt(random, 80));
    request.prompt[70] = kTinyPoison;
    request.embed = true;
    Told told = desk.run(request);
    EXPECT_TRUE(told.vector.empty());
    EXPECT_NE(told.error.find("token 70"), std::string::npos) << told.error;
    request.embed = false;
    request.prompt_logprobs = true;
    request.top_logprobs = 0;
    told = desk.run(request);
    EXPECT_NE(told.error.find("token 70"), std::string::npos) << told.error;
    EXPECT_LT(told.tokens.size(), 80U);
}

TEST(Prompt, requests_that_contradict_themselves_are_refused) {
    std::mt19937 random(5);
    PromptDesk desk(kPromptOptions);
    const auto field_of = [&](const Request& request) {
        const auto answer = desk.engine.submit(request, Time());
        const auto* refusal = std::get_if<Refusal>(&answer);
        return refusal == nullptr ? "" : refusal->field;
    };
    Request request = ask(random_prompt(random, 5));
    request.prompt_logprobs = true;
    EXPECT_EQ(field_of(request), "prompt_logprobs");
    request.top_logprobs = kTopLogprobsMax;
    request.n = kChoicesMax;
    const int n_most = static_cast<int>(kPromptLogprobsMax / (kTopLogprobsMax + 1) / kChoicesMax);
    request.prompt = random_prompt(random, n_most);
    EXPECT_NE(field_of(request), "prompt_logprobs");
    request.prompt = random_prompt(random, n_most + 1);
    EXPECT_EQ(field_of(request), "prompt_logprobs");
    request = ask(random_prompt(random, 5));
    request.embed = true;
    request.n = 2;
    EXPECT_EQ(field_of(request), "n");
    request.n = 1;
    request.prompt = random_prompt(random, kTinyContext + 1);
    EXPECT_EQ(field_of(request), "prompt");
    request.prompt.resize(kTinyContext);
    EXPECT_EQ(field_of(request), "") << "a vector needs no room for an answer";
    EXPECT_EQ(desk.engine.cancel(1, Time()), true);
    desk.run();
    EXPECT_EQ(desk.engine.pages().n_free() + desk.engine.pages().n_cached(),
              kPromptOptions.n_pages);
}

/// VEC-1: what a device reads is what the rule says, of rows with tails below and above 256 lanes.
TEST(Prompt, VEC_1_the_floating_form_is_the_hidden_state) {
    std::mt19937 random(6);
    std::normal_distribution<float> normal;
    for (TinyModel* model : {&tiny_model(), &tiny_reference()}) {
        backend::Backend& device = *model->device;
        for (const int dim : {32, 64, 288, 576}) {
            const auto n = static_cast<std::size_t>(dim);
            std::vector<float> h(2 * n);
            std::vector<float> w(n);
            for (float& value : h)
                value = normal(random);
            for (float& value : w)
                value = normal(random);
            const auto h_device = device.make_floats(h.size());
            const auto w_device = device.make_floats(w.size());
            device.upload(h, *h_device);
            device.upload(w, *w_device);
            const auto x = device.make_activations(2, dim, backend::kFloating);
            const std::vector<std::int32_t> zeros(2, 0);
            const std::vector<std::vector<std::int32_t>> tables(1);
            std::vector<std::uint8_t> failed(2, 0);
            device.norm_quantize({zeros, zeros, zeros, tables, failed}, *h_device, *w_device, 1e-5F,
                                 {dim, 1, dim, false}, *x);
            std::vector<float> wanted(2 * n);
            for (std::size_t row = 0; row < 2; ++row) {
                EXPECT_TRUE(exact::hidden_state(std::span(h).subspan(row * n, n), w, 1e-5F,
                                                std::span(wanted).subspan(row * n, n)));
            }
            EXPECT_EQ(device.read(*x, 2).floats, wanted) << device.name() << ' ' << dim;
        }
    }
}

}  // namespace
}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// A model with experts behind the engine: requests that share batches, and so the matrices of their
// experts, get what each gets alone on the reference (FWD-5).
#include <gtest/gtest.h>
#include <map>
#include <vector>

#include "engine/alone.h"
#include "engine/engine.h"
#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

Request question(int number) {
    Request request;
    request.tenant = "ann";
    for (int i = 0; i < 5 + 31 * number; ++i)
        request.prompt.push_back(tiny_byte(static_cast<char>('a' + (i * i + number) % 17)));
    request.max_tokens = 24;
    request.sampling.temperature = number % 2 == 0 ? 0.0F : 1.0F;
    request.seed = static_cast<std::uint64_t>(number);
    request.ignore_eos = true;
    return request;
}

TEST(EngineExperts, answers_of_shared_batches_are_those_of_requests_alone) {
    TinyModel model(tiny_device(), tiny_experts_file());
    TinyModel reference(backend::make_exact_backend(1), tiny_experts_file());
    Engine engine(model.transformer, tiny_tokenizer(),
                  {.n_pages = 32, .batch_tokens = 64, .sequences_max = 4});
    constexpr int kRequests = 6;
    std::map<RequestId, int> number_of;
    std::map<int, std::vector<std::int32_t>> tokens;
    for (int number = 0; number < kRequests; ++number) {
        const auto submitted = engine.submit(question(number), Time{});
        number_of[std::get<Accepted>(submitted).id] = number;
    }
    std::map<int, Sha256Digest> digests;
    Time now{};
    while (engine.has_work()) {
        now += Time(1000);
        for (const Event& event : engine.step(now)) {
            if (const auto* token = std::get_if<TokenEvent>(&event))
                tokens[number_of.at(token->request)].push_back(token->token);
            if (const auto* end = std::get_if<ChoiceFinished>(&event))
                digests[number_of.at(end->request)] = end->digest;
        }
    }
    for (int number = 0; number < kRequests; ++number) {
        const Request request = question(number);
        const AloneChoice alone = run_alone(request, *request.seed, 0, reference.transformer);
        EXPECT_EQ(tokens[number], alone.tokens) << number;
        EXPECT_EQ(digests[number], alone.digest(alone.tokens.size())) << number;
        EXPECT_EQ(alone.tokens.size(), 24U);
    }
    EXPECT_NE(tokens[0], tokens[2]);
}

}  // namespace
}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// What the engine does with a card that has no memory left, and with one that is lost. Skipped
// where there is no card.
#include <bit>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "backend/cuda/cuda.h"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

constexpr std::size_t kBadReadBytes = 1 << 20;

class Card : public testing::Test {
  protected:
    void SetUp() override {
        if (!backend::first_usable_card()) GTEST_SKIP() << "no card can be used here";
    }
};
using LostCard = Card;

Request some_request() {
    Request request;
    request.tenant = "test";
    request.prompt.assign(20, tiny_byte('a'));
    request.max_tokens = 100;
    request.ignore_eos = true;
    return request;
}

/// Ends the process with 0 when the engine says that the card is lost, and lets go of it.
[[noreturn]] void lose_the_card(bool overlap) {
    constexpr int kAnotherFailure = 3;
    constexpr int kStepsBefore = 5;
    constexpr int kStepsBehind = 3;
    try {
        TinyModel model(backend::make_cuda_backend(*backend::first_usable_card()));
        EngineOptions options{.n_pages = 64, .batch_tokens = 64, .sequences_max = 8};
        options.overlap = overlap;
        Engine engine(model.transformer, tiny_tokenizer(), options);
        for (int i = 0; i < 4; ++i)
            (void)engine.submit(some_request(), {});
        for (int i = 0; i < kStepsBefore; ++i)
            (void)engine.step({});
        // A kernel that reads where there is no memory: from then on the driver refuses
        // everything, as it does when the card has fallen off the bus.
        const auto* nowhere = std::bit_cast<const std::byte*>(std::uintptr_t{kBadReadBytes});
        backend::cuda::launch_read(nowhere, kBadReadBytes, nullptr, nullptr);
        for (int i = 0; i < kStepsBehind; ++i)
            (void)engine.step({});
        std::fputs("steps went on\n", stderr);
        std::_Exit(kAnotherFailure);
    } catch (const Error& error) {
        std::fprintf(stderr, "%s\n%s\n", error.message().c_str(), error.hint().c_str());
        std::_Exit(error.code() == ExitCode::unavailable ? 0 : kAnotherFailure);
    }
}

TEST_F(LostCard, ends_with_an_error_that_names_it) {
    testing::GTEST_FLAG(death_test_style) = "threadsafe";  // a process of its own asks the driver
    const char* told = "cuda:0: .*nvidia-smi and the kernel's log tell whether the card is lost";
    EXPECT_EXIT(lose_the_card(false), testing::ExitedWithCode(0), told);
    EXPECT_EXIT(lose_the_card(true), testing::ExitedWithCode(0), told);
}

TEST_F(Card, that_has_no_memory_left_says_so_and_goes_on) {
    TinyModel model(backend::make_cuda_backend(*backend::first_usable_card()));
    try {
        constexpr int kPagesThatNoCardHas = 1 << 30;
        (void)model.transformer.make_kv_cache(kPagesThatNoCardHas);
        FAIL() << "memory without end";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::out_of_memory);
        EXPECT_NE(error.message().find("do not fit"), std::string::npos) << error.message();
    }
    Engine engine(model.transformer, tiny_tokenizer(),
                  {.n_pages = 64, .batch_tokens = 64, .sequences_max = 8});
    (void)engine.submit(some_request(), {});
    int n_tokens = 0;
    while (engine.has_work()) {
        for (const Event& event : engine.step({}))
            n_tokens += std::holds_alternative<TokenEvent>(event) ? 1 : 0;
    }
    EXPECT_EQ(n_tokens, some_request().max_tokens);
}

}  // namespace
}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// A device that is lost while nothing runs, between steps, or as a page is cleared: an error and a
// quiet end, with pages of running requests and of prefixes to give back.
#include <gtest/gtest.h>
#include <memory>
#include <optional>

#include "backend/forwarding.h"
#include "base/error.h"
#include "engine/engine.h"
#include "engine/tiny_model.h"

namespace etalon::engine {
namespace {

constexpr int kLostPages = 8;  // of the cache: a prefix of three and little more

/// From `is_lost` on it does nothing but throw.
class LosableDevice final : public backend::Forwarding {
  public:
    using Forwarding::Forwarding;
    bool is_lost = false;

    void embed(const backend::Batch& batch, const backend::Embedding& embedding,
               backend::FloatBuffer& h) override {
        check();
        Forwarding::embed(batch, embedding, h);
    }
    void clear_page(backend::KvCache& kv, int page) override {
        check();
        Forwarding::clear_page(kv, page);
    }

  private:
    void check() const {
        if (is_lost) throw Error(ExitCode::unavailable, "the device is lost");
    }
};

class LostDevice : public testing::TestWithParam<bool> {
  protected:
    LostDevice()
        : model_(std::make_unique<LosableDevice>(
              backend::make_cpu_backend(backend::choose_isa(nullptr), 1))) {
        EngineOptions options{.n_pages = kLostPages, .batch_tokens = 64, .sequences_max = 4};
        options.overlap = GetParam();
        engine_.emplace(model_.transformer, tiny_tokenizer(), options);
    }

    RequestId submit(char letter, int n_prompt, int n_answer) {
        Request request;
        request.tenant = "test";
        request.prompt.assign(static_cast<std::size_t>(n_prompt), tiny_byte(letter));
        request.max_tokens = n_answer;
        request.ignore_eos = true;
        return std::get<Accepted>(engine_->submit(request, {})).id;
    }
    void run_to_the_end() {
        while (engine_->has_work())
            (void)engine_->step({});
    }
    void lose() { static_cast<LosableDevice&>(*model_.device).is_lost = true; }
    void expect_lost() {
        try {
            run_to_the_end();
            FAIL() << "a lost device went on";
        } catch (const Error& error) {
            EXPECT_EQ(error.code(), ExitCode::unavailable);
        }
    }

    TinyModel model_;
    std::optional<Engine> engine_;
};

TEST_P(LostDevice, while_nothing_runs_and_prefixes_are_kept) {
    submit('a', 150, 20);
    run_to_the_end();
    EXPECT_GT(engine_->pages().n_cached(), 0);
    lose();
    engine_.reset();
}

TEST_P(LostDevice, while_requests_run) {
    submit('a', 150, 20);
    submit('b', 70, 40);
    for (int i = 0; i < 8; ++i)
        (void)engine_->step({});
    lose();
    expect_lost();
}

TEST_P(LostDevice, as_a_request_is_cancelled) {
    const RequestId id = submit('a', 150, 20);
    for (int i = 0; i < 4; ++i)
        (void)engine_->step({});
    lose();
    try {
        EXPECT_TRUE(engine_->cancel(id, {}));
    } catch (const Error& error) {  // the pass under way was lost
        EXPECT_EQ(error.code(), ExitCode::unavailable);
    }
}

TEST_P(LostDevice, as_a_prefix_gives_way) {
    submit('a', 400, 20);
    run_to_the_end();
    lose();
    submit('b', 400, 20);
    expect_lost();
}

INSTANTIATE_TEST_SUITE_P(Overlap, LostDevice, testing::Bool());

}  // namespace
}  // namespace etalon::engine

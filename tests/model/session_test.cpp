// SPDX-License-Identifier: Apache-2.0
// What a session and the memory check refuse, with which words and numbers; what callers are given.
#include "model/session.h"

#include <algorithm>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "backend/forwarding.h"
#include "backend/operations.h"
#include "base/error.h"
#include "exact/digest.h"
#include "model/memory.h"
#include "model/tiny_model.h"

namespace etalon::model {
namespace {

using Tokens = std::vector<std::int32_t>;

/// The error that `call` throws.
template <typename F>
Error error_of(const F& call) {
    try {
        call();
    } catch (const Error& error) {
        return error;
    }
    return Error(ExitCode::ok, "no error");
}

class SessionTest : public testing::Test {
  protected:
    static constexpr int kContext = 300;
    std::unique_ptr<tiny::TemporaryModel> model_ = tiny::make_e8(tiny::config());
    std::unique_ptr<backend::Backend> backend_ =
        backend::make_cpu_backend(backend::choose_isa(nullptr), 1);
    Transformer transformer_{model_->file(), *backend_, 64};
};

TEST_F(SessionTest, overflow_names_both_counts_and_changes_nothing) {
    Session session(transformer_, 100);
    session.append(Tokens(90, 1), 0, LogitsWanted::last);
    const auto logits = session.last_logits();
    const Error error = error_of([&] { session.append(Tokens(11, 2), 0, LogitsWanted::last); });
    EXPECT_EQ(error.code(), ExitCode::usage);
    EXPECT_EQ(error.message(), "11 tokens do not fit: 10 of the context of 100 are left");
    EXPECT_EQ(session.tokens(), Tokens(90, 1));
    EXPECT_EQ(session.last_logits(), logits);
    session.append(Tokens(10, 2), 0, LogitsWanted::last);  // exactly full
    EXPECT_EQ(session.tokens().size(), 100U);
    const Error full = error_of([&] { session.append(Tokens(1, 2), 0, LogitsWanted::last); });
    EXPECT_EQ(full.message(), "1 tokens do not fit: 0 of the context of 100 are left");
}

TEST_F(SessionTest, the_whole_context_can_be_used) {
    Session session(transformer_, kContext);
    session.append(Tokens(kContext, 3), 0, LogitsWanted::last);
    EXPECT_EQ(session.tokens().size(), static_cast<std::size_t>(kContext));
    EXPECT_EQ(session.n_tokens_max(), kContext);
}

TEST_F(SessionTest, CHK_1_callers_see_every_position_in_order) {  // CHK-1
    Session session(transformer_, kContext);
    std::vector<std::uint64_t> seen;
    session.on_logits = [&](int position, std::span<const float> logits) {
        EXPECT_EQ(position, static_cast<int>(seen.size()));
        EXPECT_EQ(logits.size(), 200U);
        seen.push_back(exact::logits_checksum(logits));
    };
    session.append(Tokens(150, 4), 0, LogitsWanted::all);
    EXPECT_EQ(seen, session.checksums());
    EXPECT_EQ(exact::logits_checksum(session.last_logits()), seen.back());
}

TEST_F(SessionTest, ERR_1_names_the_token) {  // ERR-1
    tiny::Options options;
    options.norm_weight = 2e38F;  // finite, and its products are not
    const auto model = tiny::make_e8(tiny::config(), options);
    Transformer transformer(model->file(), *backend_, 64);
    Session session(transformer, kContext);
    const Error error = error_of([&] { session.append(Tokens(70, 5), 0, LogitsWanted::last); });
    EXPECT_EQ(error.code(), ExitCode::failure);
    EXPECT_EQ(error.message(), "token 0: a value is not finite (ERR-1)");
    EXPECT_TRUE(session.tokens().empty());
}

/// A device that wants a byte of room for each weight of a matrix.
class RoomyDevice final : public backend::Forwarding {
  public:
    using Forwarding::Forwarding;
    std::uint64_t linear_room_bytes(const weights::Tensor& tensor) const override {
        return static_cast<std::uint64_t>(tensor.n_rows * tensor.n_cols);
    }
};

TEST_F(SessionTest, the_largest_stack_has_its_room_in_the_plan) {
    const RoomyDevice roomy(backend::make_exact_backend(1));
    const auto workspace = [&](const weights::ModelConfig& config, const backend::Backend& device) {
        return memory_plan(tiny::make_e8(config)->file(), device, 64, 64).workspace;
    };
    weights::ModelConfig config = tiny::config();
    const auto room = [&] { return workspace(config, roomy) - workspace(config, *roomy.inner); };
    const auto heads = [&] {
        return static_cast<std::uint64_t>((config.n_heads + 2 * config.n_kv_heads) *
                                          config.head_dim * config.dim);
    };
    EXPECT_EQ(room(), heads());  // q, k and v
    config.hidden_dim = 1024;
    EXPECT_EQ(room(), 2U * 1024 * static_cast<unsigned>(config.dim));  // gate and up
    config = tiny::experts_config();
    EXPECT_EQ(room(), std::max<std::uint64_t>(
                          heads(), 2U * static_cast<unsigned>(config.hidden_dim * config.dim)));
}

TEST_F(SessionTest, memory_is_refused_with_both_numbers) {
    const weights::ModelFile& file = model_->file();
    const std::uint64_t needed = needed_memory(file, *backend_, kContext, 64);
    EXPECT_GT(needed, file.weights_bytes());
    EXPECT_GT(needed_memory(file, *backend_, 2 * kContext, 64), needed);
    EXPECT_GT(needed_memory(file, *backend_, kContext, 128), needed);
    EXPECT_NO_THROW(check_memory(file, *backend_, kContext, 64, needed));
    const Error error = error_of([&] { check_memory(file, *backend_, kContext, 64, needed - 1); });
    EXPECT_EQ(error.code(), ExitCode::out_of_memory);
    const MemoryPlan plan = memory_plan(file, *backend_, kContext, 64);
    EXPECT_EQ(plan.all(), needed);
    EXPECT_EQ(error.message(), fmt::format("{} needs {}; {} MiB are available",
                                           file.path().string(), plan.text(), (needed - 1) >> 20));
    EXPECT_EQ((MemoryPlan{1 << 20, (2 << 20) - 1, 3 << 20}).text(),
              "6 MiB: weights 1, keys and values 2, workspace 3");
    EXPECT_FALSE(error.hint().empty());
    const Error none = error_of([&] { check_memory(file, *backend_, 1 << 24, 64, 1 << 20); });
    EXPECT_NE(none.message().find(" 1 MiB are available"), std::string::npos) << none.message();
}

TEST_F(SessionTest, available_memory_is_more_than_nothing) {
    EXPECT_GT(available_memory(), std::uint64_t{1} << 20);
}

TEST_F(SessionTest, IMP_1_an_etalon_file_without_a_head_is_refused) {  // IMP-1
    tiny::Options options;
    options.own_head = false;
    for (const int vocab_size : {200, 208}) {  // the rows of whole tiles too
        auto config = tiny::config();
        config.vocab_size = vocab_size;
        const Error error = error_of([&] { tiny::make_e8(config, options); });
        EXPECT_EQ(error.code(), ExitCode::invalid);
        EXPECT_EQ(error.message().find("tensor output.weight: is missing ("), 0U)
            << error.message();
    }
}

TEST_F(SessionTest, stacked_matrices_have_all_biases_or_none) {
    tiny::Options options;
    options.biased = {"attn_q", "attn_k", "attn_v"};
    const auto all = tiny::make_e8(tiny::config(), options);
    EXPECT_NO_THROW(Transformer(all->file(), *backend_, 8));
    options.biased = {"attn_q", "attn_v"};
    const auto some = tiny::make_e8(tiny::config(), options);
    const Error error = error_of([&] { Transformer(some->file(), *backend_, 8); });
    EXPECT_EQ(error.code(), ExitCode::invalid);
    EXPECT_EQ(error.message(),
              "blk.0.attn_q.bias: some of the matrices stacked with it have none (" +
                  some->file().path().string() + ")");
}

}  // namespace
}  // namespace etalon::model

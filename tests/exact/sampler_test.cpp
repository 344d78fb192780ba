// SPDX-License-Identifier: Apache-2.0
// The sampler: known answers of Philox, and filters against counts over many draws.
#include "exact/sampler.h"

#include <array>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <rapidcheck.h>
#include <set>

namespace etalon::exact {
namespace {

using Words = std::array<std::uint32_t, 4>;

std::int32_t draw(const SamplingParameters& parameters, std::vector<float> logits,
                  std::uint64_t position = 7, std::span<const bool> allowed = {}) {
    return sample(parameters, {}, {}, allowed, position, 0, logits).value();
}

/// The ids that 400 draws give.
std::set<std::int32_t> drawn(const SamplingParameters& parameters, const std::vector<float>& l) {
    std::set<std::int32_t> ids;
    for (std::uint64_t position = 0; position < 400; ++position)
        ids.insert(draw(parameters, l, position));
    return ids;
}

TEST(Sampler, SMP_9_philox_known_answers) {  // SMP-9
    EXPECT_EQ(philox({0, 0, 0, 0}, {0, 0}),
              (Words{0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8}));
    EXPECT_EQ(philox({~0U, ~0U, ~0U, ~0U}, {~0U, ~0U}),
              (Words{0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD}));
    EXPECT_EQ(philox({0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344}, {0xA4093822, 0x299F31D0}),
              (Words{0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1}));
    EXPECT_EQ(draw_bits(0, 0, 0), 0xE169C58D6627E8D5U);
}

TEST(Sampler, SMP_1_repetition_counts_a_token_once) {  // SMP-1
    SamplingParameters parameters;
    parameters.repetition_penalty = 2.0F;
    std::vector<float> logits{3.0F, -3.0F, 5.0F};
    const std::array<std::int32_t, 3> prompt{0, 0, 1};
    const std::array<std::int32_t, 1> answer{1};
    apply_penalties(parameters, prompt, answer, logits);
    EXPECT_EQ(logits, (std::vector<float>{1.5F, -6.0F, 5.0F}));
}

TEST(Sampler, SMP_2_frequency_and_presence_count_the_answer) {  // SMP-2, SMP-3
    SamplingParameters parameters;
    parameters.frequency_penalty = 0.5F;
    parameters.presence_penalty = 1.0F;
    parameters.logit_bias = {{2, -4.0F}};
    std::vector<float> logits{3.0F, 3.0F, 3.0F};
    const std::array<std::int32_t, 1> prompt{0};
    const std::array<std::int32_t, 3> answer{1, 1, 1};
    apply_penalties(parameters, prompt, answer, logits);
    EXPECT_EQ(logits, (std::vector<float>{3.0F, 0.5F, -1.0F}));
}

TEST(Sampler, SMP_4_greedy_takes_the_lowest_id_that_is_allowed) {  // SMP-4
    SamplingParameters parameters;
    EXPECT_EQ(draw(parameters, {1.0F, 4.0F, 4.0F}), 1);
    const std::array<bool, 3> allowed{true, false, true};
    EXPECT_EQ(draw(parameters, {1.0F, 4.0F, 4.0F}, 0, allowed), 2);
}

TEST(Sampler, SMP_5_shares_follow_the_softmax) {  // SMP-5, SMP-10
    SamplingParameters parameters;
    parameters.temperature = 1.0F;
    constexpr int kDraws = 20000;
    int first = 0;
    for (std::uint64_t position = 0; position < kDraws; ++position) {
        if (draw(parameters, {0.0F, std::log(3.0F)}, position) == 0) ++first;
    }
    EXPECT_NEAR(static_cast<double>(first) / kDraws, 0.25, 0.02);
    EXPECT_EQ(drawn(parameters, {0.0F, -200.0F}), (std::set<std::int32_t>{0}));
}

TEST(Sampler, SMP_6_top_k_ties_go_to_the_lower_id) {  // SMP-6
    SamplingParameters parameters;
    parameters.temperature = 1.0F;
    parameters.top_k = 2;
    EXPECT_EQ(drawn(parameters, {1.0F, 2.0F, 1.0F, 1.0F}), (std::set<std::int32_t>{0, 1}));
}

TEST(Sampler, SMP_7_top_p_is_the_smallest_prefix) {  // SMP-7
    SamplingParameters parameters;
    parameters.temperature = 1.0F;
    const std::vector<float> equal(4, 1.0F);
    for (int n = 1; n <= 3; ++n) {
        parameters.top_p = 0.25F * static_cast<float>(n);
        EXPECT_EQ(drawn(parameters, equal).size(), static_cast<std::size_t>(n));
        parameters.top_p = 0.25F * static_cast<float>(n) + 1e-6F;
        EXPECT_EQ(drawn(parameters, equal).size(), static_cast<std::size_t>(n + 1));
    }
    parameters.top_p = 1e-30F;
    EXPECT_EQ(drawn(parameters, equal), (std::set<std::int32_t>{0}));
}

TEST(Sampler, SMP_8_min_p_is_relative_to_the_largest) {  // SMP-8
    SamplingParameters parameters;
    parameters.temperature = 1.0F;
    parameters.min_p = 0.5F;
    EXPECT_EQ(drawn(parameters, {0.0F, -0.6F, -0.8F}), (std::set<std::int32_t>{0, 1}));
}

TEST(Sampler, SMP_10_a_seed_gives_one_answer) {  // SMP-10
    EXPECT_TRUE(rc::check("the same call gives the same allowed id", [] {
        SamplingParameters parameters;
        parameters.temperature = 0.7F;
        parameters.top_p = 0.9F;
        parameters.seed = *rc::gen::arbitrary<std::uint64_t>();
        const auto raw =
            *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(-2000, 2000)));
        std::vector<float> logits;
        for (const int value : raw)
            logits.push_back(static_cast<float>(value) * 0.01F);
        const std::int32_t id = draw(parameters, logits);
        RC_ASSERT(id >= 0 && static_cast<std::size_t>(id) < logits.size());
        RC_ASSERT(draw(parameters, logits) == id);
    }));
}

TEST(Sampler, ERR_3_a_logit_that_is_not_finite_draws_nothing) {  // ERR-3
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        std::vector<float> logits{0.0F, bad};
        EXPECT_FALSE(sample({}, {}, {}, {}, 0, 0, logits).has_value());
    }
    std::vector<float> logits{0.0F, 1.0F};
    const std::array<bool, 2> none{false, false};
    EXPECT_FALSE(sample({}, {}, {}, none, 0, 0, logits).has_value());
}

}  // namespace
}  // namespace etalon::exact

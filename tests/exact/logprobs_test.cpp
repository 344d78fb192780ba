// SPDX-License-Identifier: Apache-2.0
// Log-probabilities: known values, and sums and orders against libm in binary64.
#include "exact/logprobs.h"

#include <array>
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <rapidcheck.h>

namespace etalon::exact {
namespace {

TEST(Logprobs, SMP_11_one_token_is_certain) {  // SMP-11
    const std::array<float, 1> logits{-7.5F};
    EXPECT_EQ(Logprobs(logits).of(0), 0.0F);
}

TEST(Logprobs, SMP_11_equal_logits_share) {
    const std::array<float, 4> logits{3.0F, 3.0F, 3.0F, 3.0F};
    // S = 2^33: log2 is 33, so every token has -2 ln 2.
    EXPECT_EQ(std::bit_cast<std::uint32_t>(Logprobs(logits).of(2)), 0xBFB17218U);
}

TEST(Logprobs, SMP_11_agrees_with_binary64) {
    EXPECT_TRUE(rc::check("within 1e-5 of the logarithm of the softmax", [] {
        const auto raw =
            *rc::gen::nonEmpty(rc::gen::container<std::vector<int>>(rc::gen::inRange(-1500, 1500)));
        std::vector<float> logits;
        for (const int value : raw)
            logits.push_back(static_cast<float>(value) * 0.01F);
        double sum = 0.0;
        for (const float l : logits)
            sum += std::exp(static_cast<double>(l));
        const Logprobs logprobs(logits);
        for (std::size_t i = 0; i < logits.size(); ++i) {
            const double wanted = static_cast<double>(logits[i]) - std::log(sum);
            const auto got = static_cast<double>(logprobs.of(static_cast<std::int32_t>(i)));
            RC_ASSERT(std::abs(got - wanted) < 1e-5);
        }
    }));
}

TEST(Logprobs, SMP_12_ties_go_to_the_lower_id) {  // SMP-12
    const std::array<float, 5> logits{1.0F, 4.0F, 2.0F, 4.0F, 2.0F};
    const Logprobs logprobs(logits);
    const auto best = logprobs.top(3);
    ASSERT_EQ(best.size(), 3U);
    EXPECT_EQ(best[0], (std::pair{1, logprobs.of(1)}));
    EXPECT_EQ(best[1], (std::pair{3, logprobs.of(3)}));
    EXPECT_EQ(best[2], (std::pair{2, logprobs.of(2)}));
    EXPECT_TRUE(logprobs.top(0).empty());
    EXPECT_EQ(logprobs.top(20).size(), 5U);
}

}  // namespace
}  // namespace etalon::exact

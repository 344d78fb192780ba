// SPDX-License-Identifier: Apache-2.0
// Vectors of texts: the example of the specification, the order of sums, what is not finite.
#include "exact/pool.h"

#include <array>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>

namespace etalon::exact {
namespace {

TEST(Pool, VEC_1_the_hidden_state_is_weighed_then_scaled) {  // VEC-1
    const std::array<float, 2> h{3.0F, 4.0F};
    const std::array<float, 2> w{1.0F, 2.0F};
    std::array<float, 2> e{};
    EXPECT_TRUE(hidden_state(h, w, 0.0F, e));
    const float scale = 1.0F / std::sqrt(12.5F);
    EXPECT_EQ(e[0], 3.0F * scale);
    EXPECT_EQ(e[1], 8.0F * scale);
    const std::array<float, 2> zero{};
    EXPECT_FALSE(hidden_state(zero, w, 0.0F, e)) << "1 / 0";
}

TEST(Pool, VEC_2_VEC_3_example) {  // VEC-2, VEC-3
    MeanPool pool(2);
    pool.add(std::array<float, 2>{3.0F, 0.0F});
    pool.add(std::array<float, 2>{0.0F, 4.0F});
    EXPECT_EQ(pool.n_tokens(), 2U);
    EXPECT_EQ(pool.finish(false), (std::vector<float>{1.5F, 2.0F}));
    EXPECT_EQ(pool.finish(true), (std::vector<float>{0.6F, 0.8F}));
}

TEST(Pool, VEC_2_sums_in_the_order_of_the_tokens) {
    // 2^24 + 1 + 1: one at a time both are lost, together first they would not be.
    MeanPool pool(1);
    for (const float value : {0x1p24F, 1.0F, 1.0F})
        pool.add(std::array<float, 1>{value});
    EXPECT_EQ(pool.finish(false)->front(), 0x1p24F / 3.0F);
    MeanPool other(1);
    for (const float value : {1.0F, 1.0F, 0x1p24F})
        other.add(std::array<float, 1>{value});
    EXPECT_EQ(other.finish(false)->front(), (0x1p24F + 2.0F) / 3.0F);
    EXPECT_NE(pool.finish(false), other.finish(false));
}

TEST(Pool, VEC_3_divides_by_the_length_of_256_lanes) {
    // Elements 0 and 256 share a lane: fma(b, b, a * a) is not a * a + b * b where both round.
    MeanPool pool(257);
    std::vector<float> e(257, 0.0F);
    e[0] = 1.1F;
    e[256] = 1.3F;
    pool.add(e);
    const float length = std::sqrt(std::fma(1.3F, 1.3F, 1.1F * 1.1F));
    EXPECT_EQ(pool.finish(true)->front(), 1.1F / length);
    EXPECT_EQ(pool.finish(true)->back(), 1.3F / length);
}

TEST(Pool, VEC_3_a_vector_without_a_length_is_none) {
    MeanPool zero(3);
    zero.add(std::array<float, 3>{});
    EXPECT_FALSE(zero.finish(true));
    EXPECT_EQ(zero.finish(false), std::vector<float>(3, 0.0F));
    for (const float bad :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        MeanPool pool(2);
        pool.add(std::array<float, 2>{1.0F, bad});
        EXPECT_FALSE(pool.finish(true));
        EXPECT_FALSE(pool.finish(false));
    }
    MeanPool huge(1);
    huge.add(std::array<float, 1>{0x1p127F});
    EXPECT_TRUE(huge.finish(false));
    EXPECT_FALSE(huge.finish(true)) << "its square is infinite";
}

}  // namespace
}  // namespace etalon::exact

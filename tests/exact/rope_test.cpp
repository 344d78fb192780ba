// SPDX-License-Identifier: Apache-2.0
// Rotary positions against the published formulas in long double.
#include "exact/rope.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <gtest/gtest.h>

namespace etalon::exact {
namespace {

const long double kTwoPi = 2 * acosl(-1.0L);

/// Angles of a position in radians, by the plain formula.
std::vector<long double> plain(const RopeConfig& config) {
    std::vector<long double> angles;
    for (int j = 0; j < config.n_dims / 2; ++j) {
        angles.push_back(powl(static_cast<long double>(config.base), -2.0L * j / config.n_dims));
    }
    return angles;
}

void expect_turns(const RopeConfig& config, const std::vector<long double>& angles,
                  long double tolerance) {
    const auto turns = rope_turns(config);
    ASSERT_EQ(turns.size(), angles.size());
    for (std::size_t j = 0; j < turns.size(); ++j) {
        const long double right = angles[j] / kTwoPi * 0x1p64L;  // and one unit for the rounding
        ASSERT_LT(fabsl(static_cast<long double>(turns[j]) - right), tolerance * right + 1.0L) << j;
    }
}

RopeConfig config_with(float base, RopeScaling scaling = RopeScaling::none) {
    RopeConfig config;
    config.n_dims = 128;
    config.base = base;
    config.scaling = scaling;
    return config;
}

TEST(Rope, RPE_2_plain_turns) {  // RPE-1, RPE-2
    for (const float base : {10000.0F, 500000.0F, 1e6F, 1e8F, 1.5F}) {
        const RopeConfig config = config_with(base);
        expect_turns(config, plain(config), 1e-14L);
    }
    EXPECT_NEAR(static_cast<double>(rope_turns(config_with(1e4F))[0]), 0x1.45F306DC9C882p61, 4096);
}

TEST(Rope, RPE_2_frequency_factors_divide) {  // RPE-2
    RopeConfig config = config_with(500000.0F);
    auto angles = plain(config);
    for (std::size_t j = 0; j < angles.size(); ++j) {
        config.frequency_factors.push_back(1.0F + 0.25F * static_cast<float>(j));
        angles[j] /= static_cast<long double>(config.frequency_factors[j]);
    }
    expect_turns(config, angles, 1e-14L);
}

TEST(Rope, RPE_3_linear_and_llama3) {  // RPE-3
    RopeConfig config = config_with(500000.0F, RopeScaling::linear);
    config.factor = 8.0F;
    config.original_context_length = 8192;
    auto angles = plain(config);
    for (long double& angle : angles)
        angle /= 8.0L;
    expect_turns(config, angles, 1e-14L);
    config.scaling = RopeScaling::llama3;
    angles = plain(config);
    for (long double& angle : angles) {
        const long double wave = kTwoPi / angle;
        if (wave > 8192.0L / 1.0L) {
            angle /= 8.0L;
        } else if (wave >= 8192.0L / 4.0L) {
            const long double smooth = (8192.0L / wave - 1.0L) / (4.0L - 1.0L);
            angle = (1.0L - smooth) * angle / 8.0L + smooth * angle;
        }
    }
    expect_turns(config, angles, 1e-14L);
}

TEST(Rope, RPE_4_yarn) {  // RPE-4
    RopeConfig config = config_with(1e6F, RopeScaling::yarn);
    config.factor = 4.0F;
    config.original_context_length = 32768;
    auto angles = plain(config);
    const auto pair_of = [](long double beta) {
        return 128.0L * logl(32768.0L / (beta * kTwoPi)) / (2.0L * logl(1e6L));
    };
    const long double low = floorl(pair_of(32.0L));
    const long double high = ceill(pair_of(1.0L));
    for (std::size_t j = 0; j < angles.size(); ++j) {
        const long double share =
            std::clamp((static_cast<long double>(j) - low) / (high - low), 0.0L, 1.0L);
        angles[j] = angles[j] / 4.0L * share + angles[j] * (1.0L - share);
    }
    expect_turns(config, angles, 1e-14L);
    EXPECT_NEAR(rope_magnitude(config), 0.1 * std::log(4.0) + 1.0, 1e-7);
    config.attention_factor = 1.25F;
    EXPECT_EQ(rope_magnitude(config), 1.25F);
}

TEST(Rope, RPE_5_late_positions_are_as_right_as_early_ones) {  // RPE-5
    const RopeConfig config = config_with(10000.0F);
    const auto turns = rope_turns(config);
    const auto angles = plain(config);
    std::vector<float> cosines(turns.size());
    std::vector<float> sines(turns.size());
    for (const std::int64_t position : {0, 1, 4095, 131071}) {
        rope_table(turns, 1.0F, position, cosines, sines);
        for (std::size_t j = 0; j < turns.size(); ++j) {
            const long double angle = angles[j] * static_cast<long double>(position);
            ASSERT_NEAR(static_cast<double>(cosines[j]), static_cast<double>(cosl(angle)), 2e-7);
            ASSERT_NEAR(static_cast<double>(sines[j]), static_cast<double>(sinl(angle)), 2e-7);
        }
    }
}

TEST(Rope, RPE_6_pairs_turn) {                 // RPE-6, RPE-7
    const std::array<float, 2> c{0.0F, 1.0F};  // a quarter, nothing
    const std::array<float, 2> s{1.0F, 0.0F};
    std::array<float, 5> head{1.0F, 2.0F, 3.0F, 4.0F, 5.0F};
    rope_apply(RopePairing::interleaved, c, s, head);
    EXPECT_EQ(head, (std::array<float, 5>{-2.0F, 1.0F, 3.0F, 4.0F, 5.0F}));
    head = {1.0F, 2.0F, 3.0F, 4.0F, 5.0F};
    rope_apply(RopePairing::halves, c, s, head);
    EXPECT_EQ(head, (std::array<float, 5>{-3.0F, 2.0F, 1.0F, 4.0F, 5.0F}));
}

}  // namespace
}  // namespace etalon::exact

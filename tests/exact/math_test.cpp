// SPDX-License-Identifier: Apache-2.0
// Elementary functions against long double: every binary32 of exp2's range when ETALON_SLOW is 1,
// dense samples otherwise.
#include "exact/math.h"

#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <gtest/gtest.h>
#include <rapidcheck.h>
#include <string_view>
#include <thread>

#include "base/float_mode.h"

namespace etalon::exact {
namespace {

bool slow() {
    const char* value = std::getenv("ETALON_SLOW");
    return value != nullptr && std::string_view(value) == "1";
}

/// Largest relative error of exp2 over the patterns first, first + step, ... up to abs(x) = 126.
double exp2_error(std::uint32_t first, std::uint32_t step) {
    double largest = 0.0;
    const auto last = std::bit_cast<std::uint32_t>(126.0F);
    for (std::uint64_t bits = first; bits <= last; bits += step) {
        for (const float sign : {1.0F, -1.0F}) {
            const float x = sign * std::bit_cast<float>(static_cast<std::uint32_t>(bits));
            const long double right = exp2l(static_cast<long double>(x));
            const auto error = static_cast<double>((exp2(x) - right) / right);
            largest = std::max(largest, std::abs(error));
        }
    }
    return largest;
}

TEST(Math, MTH_1_exp2_is_within_its_bound) {  // MTH-1
    const std::uint32_t step = slow() ? 1 : 4001;
    std::array<double, 2> error{};
    std::thread other([&] { error[1] = exp2_error(step, 2 * step); });
    error[0] = exp2_error(0, 2 * step);
    other.join();
    EXPECT_LT(std::max(error[0], error[1]), 2e-7);
}

TEST(Math, MTH_1_integers_are_exact_and_no_value_below_zero_exceeds_one) {  // MTH-1
    EXPECT_EQ(std::bit_cast<std::uint32_t>(exp2(0.5F)), 0x3FB504F2U);
    for (int n = -126; n <= 126; ++n)
        EXPECT_EQ(exp2(static_cast<float>(n)), power_of_two(n));
    for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(126.0F); bits += 997) {
        ASSERT_LE(exp2(-std::bit_cast<float>(bits)), 1.0F);
    }
}

TEST(Math, MTH_2_poly3_is_within_its_bound_and_below_one) {  // MTH-2
    for (int i = -1'000'000; i <= 1'000'000; ++i) {
        const float f = static_cast<float>(i) * 5e-7F;
        const double right = std::exp2(static_cast<double>(f));
        ASSERT_LT(std::abs(exp2_poly3(f) / right - 1.0), 7.5e-5) << f;
        const float limit = f <= 0.0F ? 1.0F : 2.0F;
        ASSERT_LT(exp2_poly3(f), limit) << f;
    }
}

TEST(Math, MTH_3_log2_is_within_its_bound) {  // MTH-3
    for (std::uint32_t bits = 0x00800000; bits < 0x7F800000; bits += 2003) {
        const auto x = std::bit_cast<float>(bits);
        const auto right = static_cast<double>(log2l(static_cast<long double>(x)));
        ASSERT_LT(std::abs(log2(x) - right), 2e-7 + 6e-8 * std::abs(right)) << x;
    }
}

TEST(Math, MTH_4_sine_and_cosine_are_within_their_bound) {  // MTH-4
    constexpr std::uint64_t kStep = 0xFFFFFFFFFFFFFFFFU / 3'000'017;
    std::uint64_t turn = 0;
    for (int i = 0; i < 3'000'017; ++i, turn += kStep) {
        const long double angle = static_cast<long double>(turn) * 0x1p-64L * 2 * acosl(-1.0L);
        const SinCos value = sincos_turn(turn);
        ASSERT_LT(std::abs(static_cast<double>(value.sin - sinl(angle))), 1.5e-7) << turn;
        ASSERT_LT(std::abs(static_cast<double>(value.cos - cosl(angle))), 1.5e-7) << turn;
    }
}

TEST(Math, MTH_4_quarter_turns_are_exact) {  // MTH-4
    for (std::uint64_t quarter = 0; quarter < 4; ++quarter) {
        const SinCos value = sincos_turn(quarter << 62);
        const std::array<float, 5> sines{0.0F, 1.0F, 0.0F, -1.0F, 0.0F};
        EXPECT_EQ(value.sin, sines[quarter]);
        EXPECT_EQ(value.cos, sines[quarter + 1] * 1.0F);
    }
}

TEST(Math, MTH_5_constants_are_the_nearest_binary32) {  // MTH-5
    EXPECT_EQ(kLog2E, static_cast<float>(1.0 / std::log(2.0)));
    EXPECT_EQ(kLn2, static_cast<float>(std::log(2.0)));
}

TEST(Math, FLT_1_subnormals_and_ties_are_kept) {  // FLT-1
    volatile float tiny = 0x1p-149F;
    volatile float small = 0x1p-126F;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(tiny + tiny), 2U);
    EXPECT_EQ(std::bit_cast<std::uint32_t>(small / 2.0F), 0x00400000U);
    volatile float tenth = 0.1F;
    volatile float fifth = 0.2F;
    EXPECT_EQ(std::bit_cast<std::uint32_t>(tenth + fifth), 0x3E99999AU);
}

TEST(Math, FLT_2_fma_rounds_once) {  // FLT-2
    volatile float x = 1.0F + 0x1p-12F;
    EXPECT_EQ(fma(x, x, -(1.0F + 0x1p-11F)), 0x1p-24F);
    EXPECT_EQ(x * x - (1.0F + 0x1p-11F), 0.0F);
}

TEST(Math, FLT_3_this_thread_has_the_mode) {  // FLT-3
    assert_float_mode();
    std::thread([] { assert_float_mode(); }).join();
}

TEST(Math, FLT_4_rne_takes_ties_to_even) {  // FLT-4
    EXPECT_TRUE(rc::check("rne equals nearbyint", [] {
        const auto quarters = *rc::gen::inRange(-(1 << 24), (1 << 24) + 1);
        const float x = static_cast<float>(quarters) * 0.25F;
        RC_ASSERT(rne(x) == std::nearbyint(x));
    }));
    EXPECT_EQ(rne(2.5F), 2.0F);
    EXPECT_EQ(rne(-3.5F), -4.0F);
    EXPECT_EQ(rne(0x1p22F), 0x1p22F);
}

}  // namespace
}  // namespace etalon::exact

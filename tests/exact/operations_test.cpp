// SPDX-License-Identifier: Apache-2.0
// Quantise, linear, norm, SwiGLU, experts, checksum and digest: the examples of the specification,
// extremes, and properties on random vectors.
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <gtest/gtest.h>
#include <limits>
#include <rapidcheck.h>
#include <vector>

#include "exact/digest.h"
#include "exact/linear.h"
#include "exact/math.h"
#include "exact/moe.h"
#include "exact/norm.h"
#include "exact/quantize.h"
#include "exact/swiglu.h"

namespace etalon::exact {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Floats with any exponent, finite.
std::vector<float> random_floats(std::size_t n) {
    auto words =
        *rc::gen::container<std::vector<std::uint32_t>>(n, rc::gen::arbitrary<std::uint32_t>());
    std::vector<float> x;
    for (std::uint32_t& word : words) {
        word *= 0x9E3779B9U;  // small numbers are what the generator likes
        if ((word & 0x7F800000U) == 0x7F800000U) word &= 0xBFFFFFFFU;
        x.push_back(std::bit_cast<float>(word));
    }
    return x;
}

std::vector<std::int8_t> random_int8(std::size_t n) {
    return *rc::gen::container<std::vector<std::int8_t>>(
        n, rc::gen::map(rc::gen::inRange(-127, 128),
                        [](int value) { return static_cast<std::int8_t>(value); }));
}

TEST(Quantize, QNT_2_example) {  // QNT-1, QNT-2
    const std::array<float, 3> x{1.0F, -2.0F, 0.5F};
    std::array<std::int8_t, 3> q{};
    const QuantizeResult result = quantize(x, q);
    EXPECT_EQ(q, (std::array<std::int8_t, 3>{64, -127, 32}));
    EXPECT_EQ(std::bit_cast<std::uint32_t>(result.scale), 0x3C810204U);
}

TEST(Quantize, QNT_2_codes_stay_in_range_and_near) {  // QNT-1, QNT-2
    EXPECT_TRUE(rc::check("abs(q) <= 127, and one reaches it", [] {
        const auto x = random_floats(*rc::gen::inRange<std::size_t>(1, 200));
        std::vector<std::int8_t> q(x.size());
        const QuantizeResult result = quantize(x, q);
        float amax = 0.0F;
        for (const float value : x)
            amax = std::max(amax, std::abs(value));
        RC_ASSERT(amax == std::bit_cast<float>(amax_bits(x)));
        RC_ASSERT(result.finite);
        RC_ASSERT(result.scale == (amax < kAmaxMin ? 0.0F : amax / 127.0F));
        int largest = 0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            largest = std::max(largest, std::abs(static_cast<int>(q[i])));
            const double back = static_cast<double>(q[i]) * static_cast<double>(result.scale);
            RC_ASSERT(result.scale == 0.0F || std::abs(back - static_cast<double>(x[i])) <=
                                                  0.50001 * static_cast<double>(amax) / 127.0);
        }
        RC_ASSERT(largest == (amax < kAmaxMin ? 0 : 127));
    }));
}

TEST(Quantize, QNT_3_blocks_are_quantised_apart) {  // QNT-3
    std::vector<float> x(64, 1.0F);
    std::fill(x.begin() + 32, x.end(), -1e20F);
    std::vector<std::int8_t> q(64);
    std::array<float, 2> a{};
    ASSERT_TRUE(quantize_blocks(x, q, a));
    EXPECT_EQ(q[0], 127);
    EXPECT_EQ(q[63], -127);
    EXPECT_EQ(a, (std::array<float, 2>{1.0F / 127.0F, 1e20F / 127.0F}));
}

TEST(Quantize, QNT_4_small_vectors_are_zero_and_the_rest_is_not) {  // QNT-4
    std::array<std::int8_t, 1> q{5};
    const std::array<float, 1> below{std::nextafter(1e-30F, 0.0F)};
    EXPECT_EQ(quantize(below, q).scale, 0.0F);
    EXPECT_EQ(q[0], 0);
    const std::array<float, 1> at{-1e-30F};
    EXPECT_GT(quantize(at, q).scale, 0.0F);
    EXPECT_EQ(q[0], -127);
}

TEST(Quantize, ERR_1_infinity_and_nan_are_found) {  // ERR-1
    for (const float bad : {kInfinity, -kInfinity, kNan, -kNan}) {
        std::vector<float> x(64, 1.0F);
        x[40] = bad;
        std::vector<std::int8_t> q(64, 1);
        std::array<float, 2> a{1.0F, 1.0F};
        EXPECT_FALSE(quantize(x, q).finite);
        EXPECT_FALSE(quantize_blocks(x, q, a));
        EXPECT_EQ(q, std::vector<std::int8_t>(64, 0));
        EXPECT_EQ(a, (std::array<float, 2>{0.0F, 0.0F}));
    }
}

TEST(Linear, LIN_2_the_longest_extreme_row_fits) {  // LIN-2
    const std::vector<std::int8_t> w(kLinearKMax, -127);
    const std::vector<std::int8_t> x(kLinearKMax, 127);
    EXPECT_EQ(dot_i8(w, x), -2'114'060'288);
}

TEST(Linear, LIN_3_scales_are_multiplied_first) {  // LIN-1, LIN-3
    EXPECT_EQ(scale_sum(-11, 0.5F, 0.25F), -1.375F);
    EXPECT_EQ(scale_sum(1 << 20, 0x1p-100F, 0x1p-60F), 0.0F);  // a·d is below every subnormal
}

TEST(Linear, LIN_4_blocks_against_wide_integers) {  // LIN-4, LIN-5, LIN-6
    EXPECT_TRUE(rc::check("sums in 64 bits, fma by blocks", [] {
        const std::size_t n = *rc::gen::inRange<std::size_t>(1, 5);
        const auto q_x = random_int8(32 * n);
        const auto weights = random_int8(32 * n);
        std::vector<Block32> row(n);
        std::vector<float> a(n);
        float expected = 0.0F;
        for (std::size_t b = 0; b < n; ++b) {
            Block32& block = row[b];
            std::copy_n(weights.begin() + static_cast<std::ptrdiff_t>(32 * b), 32, block.q.begin());
            for (std::size_t h = 0; h < 2; ++h) {
                block.sub_scale[h] = static_cast<std::int16_t>(*rc::gen::inRange(-128, 128));
                block.sub_min[h] = static_cast<std::int16_t>(*rc::gen::inRange(0, 64));
            }
            block.d = static_cast<float>(*rc::gen::inRange(-999, 999)) * 0x1.3p-9F;
            block.m = static_cast<float>(*rc::gen::inRange(-999, 999)) * 0x1.7p-9F;
            a[b] = static_cast<float>(*rc::gen::inRange(0, 999)) * 0x1.1p-9F;
            std::int64_t p = 0;
            std::int64_t s = 0;
            for (std::size_t i = 0; i < 32; ++i) {
                p += std::int64_t{block.sub_scale[i / 16]} * block.q[i] * q_x[32 * b + i];
                s += std::int64_t{block.sub_min[i / 16]} * q_x[32 * b + i];
            }
            expected = std::fma(static_cast<float>(p), block.d * a[b], expected);
            expected = std::fma(static_cast<float>(s), block.m * a[b], expected);
        }
        RC_ASSERT(linear_blocked(true, row, q_x, a) == expected);
    }));
}

TEST(Linear, LIN_7_is_the_sum_in_lanes) {  // LIN-7, SUM-1
    std::vector<float> w(257, 1.0F);
    std::vector<float> x(257, 0.0F);
    x[0] = 0x1p24F;
    x[128] = 1.0F;  // added in the first step of the tree: a tie that goes up
    x[256] = 2.0F;  // lane 0, before the tree: front to back the sum would end in 2
    std::vector<std::byte> bytes(257 * 4);
    std::memcpy(bytes.data(), w.data(), bytes.size());
    EXPECT_EQ(linear_floating(Format::f32, bytes, x), 0x1p24F + 4.0F);
    EXPECT_EQ(dot_lanes(w, x), 0x1p24F + 4.0F);
}

TEST(Linear, FMT_17_table_rows_and_nibbles) {  // FMT-17
    std::vector<std::byte> codes(16, std::byte{0xF0});
    const std::array<std::byte, 1> index{std::byte{0x5F}};
    std::vector<std::int8_t> q(32);
    decode_e4(codes, index, q);
    for (std::size_t i = 0; i < 32; ++i) {
        const int expected = i < 16 ? (i % 2 == 0 ? -127 : 112) : (i % 2 == 0 ? 70 : -62);
        EXPECT_EQ(q[i], expected) << i;
    }
    for (const auto& row : kE4Table) {
        for (const std::int8_t value : row)
            EXPECT_NE(value, -128);
    }
}

TEST(Norm, NRM_1_example) {  // NRM-1, NRM-2
    const std::array<float, 2> h{3.0F, 4.0F};
    const std::array<float, 2> w{1.0F, 2.0F};
    std::array<float, 2> z{};
    norm_weigh(h, w, z);
    EXPECT_EQ(z, (std::array<float, 2>{3.0F, 8.0F}));
    EXPECT_EQ(norm_scale(h, 0.0F), 1.0F / std::sqrt(12.5F));
}

TEST(Norm, NRM_3_scales_that_are_refused) {  // NRM-3, ERR-1
    EXPECT_TRUE(norm_scale_is_valid(0x1p-149F));
    for (const float bad : {0.0F, -1.0F, kInfinity, kNan, -kNan})
        EXPECT_FALSE(norm_scale_is_valid(bad));
    const std::array<float, 2> overflow{3e38F, 0.0F};
    EXPECT_FALSE(norm_scale_is_valid(norm_scale(overflow, 1e-5F)));
}

TEST(Swiglu, SWI_1_is_near_the_real_function) {  // SWI-1
    EXPECT_EQ(swiglu(0.0F, 3.0F), 0.0F);
    for (int i = -4000; i <= 4000; ++i) {
        const double g = 0.02 * i;
        const double right = g / (1.0 + std::exp(-g)) * 1.5;
        const auto value = static_cast<double>(swiglu(static_cast<float>(g), 1.5F));
        ASSERT_NEAR(value, right, 1e-6 + 4e-5 * std::abs(right)) << g;
    }
    EXPECT_TRUE(std::isnan(swiglu(kNan, 1.0F)));
    EXPECT_EQ(swiglu(kInfinity, 1.0F), kInfinity);
    EXPECT_EQ(swiglu(1e30F, 2.0F), 2e30F);
}

TEST(Residual, RES_1_adds_what_linear_gives) {  // RES-1
    EXPECT_EQ(1.0F + scale_sum(-11, 0.5F, 0.25F), -0.375F);
}

TEST(Moe, MOE_1_ties_go_to_the_lower_index) {  // MOE-1, MOE-2
    const std::array<float, 4> logits{1.0F, 3.0F, 3.0F, 3.0F};
    const auto chosen = route(logits, 2);
    ASSERT_EQ(chosen.size(), 2U);
    EXPECT_EQ(chosen[0].expert, 1);
    EXPECT_EQ(chosen[1].expert, 2);
    EXPECT_EQ(chosen[0].weight, 0.5F);
}

TEST(Moe, MOE_2_far_logits_weigh_almost_nothing) {  // MOE-2
    const std::array<float, 2> logits{-3e38F, 3e38F};
    const auto chosen = route(logits, 2);
    EXPECT_EQ(chosen[0].weight, 0x1p-126F);
    EXPECT_EQ(chosen[1].weight, 1.0F);
}

TEST(Moe, MOE_4_logits_that_are_not_finite_read_as_zero) {  // MOE-4
    for (const float bad : {kInfinity, -kInfinity, std::nanf("")}) {
        std::array<float, 3> logits{-1.0F, 5.0F, bad};
        EXPECT_FALSE(settle_router_logits(logits));
        EXPECT_EQ(logits, (std::array<float, 3>{}));
    }
    std::array<float, 2> logits{-3e38F, 3e38F};
    EXPECT_TRUE(settle_router_logits(logits));
    EXPECT_EQ(logits[1], 3e38F);
}

TEST(Moe, MOE_3_adds_by_fma) {  // MOE-3
    const std::array<float, 1> y{1.0F + 0x1p-12F};
    std::array<float, 1> acc{-(1.0F + 0x1p-11F)};
    accumulate_expert(1.0F + 0x1p-12F, y, acc);
    EXPECT_EQ(acc[0], 0x1p-24F);
}

TEST(Digest, CHK_1_example) {  // CHK-1
    const std::array<float, 2> logits{1.0F, 2.0F};
    EXPECT_EQ(logits_checksum(logits), 0xFF800000U);
}

TEST(Digest, DIG_1_is_sha256_of_the_records) {  // DIG-1, DIG-2
    RunDigest digest;
    digest.add(0x01020304, 0x1112131415161718);
    const std::array<std::uint8_t, 12> record{4,    3,    2,    1,    0x18, 0x17,
                                              0x16, 0x15, 0x14, 0x13, 0x12, 0x11};
    EXPECT_EQ(digest.finish(), sha256(std::as_bytes(std::span(record))));
}

}  // namespace
}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Attention against softmax in double precision, and what must hold exactly: invisible keys and the
// way to a position change no bit.
#include "exact/attention.h"

#include <array>
#include <bit>
#include <cmath>
#include <gtest/gtest.h>
#include <vector>

#include "exact/math.h"
#include "exact/rotate.h"

namespace etalon::exact {
namespace {

constexpr int kDim = 64;

struct Cache {
    std::vector<std::vector<std::int8_t>> q;
    std::vector<float> scales;
    CacheReader reader() const {
        return [this](std::int64_t j) {
            const auto i = static_cast<std::size_t>(j);
            return CachedVector{q.at(i), scales.at(i)};
        };
    }
};

Cache make_cache(int n, std::uint32_t seed, float scale) {
    Cache cache;
    for (int j = 0; j < n; ++j) {
        std::vector<std::int8_t> v(kDim);
        for (std::int8_t& value : v) {
            seed = seed * 1664525 + 1013904223;
            value = static_cast<std::int8_t>(static_cast<int>((seed >> 16) % 255) - 127);
        }
        cache.q.push_back(v);
        cache.scales.push_back(scale * (0.5F + static_cast<float>(seed >> 8 & 255U) / 255.0F));
    }
    return cache;
}

const Cache kKeys = make_cache(2300, 1, 0.05F);
const Cache kValues = make_cache(2300, 2, 0.02F);
const Cache kQueries = make_cache(4, 3, 0.4F);

std::vector<float> attended(Visible visible, const Cache& keys = kKeys,
                            const Cache& values = kValues, std::size_t query = 0) {
    std::vector<float> o(kDim);
    EXPECT_TRUE(attend(kQueries.q[query], kQueries.scales[query], keys.reader(), values.reader(),
                       visible, o));
    return o;
}

TEST(Attention, ATT_1_visible_keys) {  // ATT-1
    EXPECT_EQ(visible_keys(9, 0).first, 0);
    EXPECT_EQ(visible_keys(9, 4).first, 6);
    EXPECT_EQ(visible_keys(2, 4).first, 0);
    EXPECT_EQ(visible_keys(2, 4).last, 2);
}

TEST(Attention, ATT_3_constant) {  // ATT-3
    EXPECT_EQ(attention_constant(64), (kLog2E / 8.0F) / 64.0F);
    EXPECT_EQ(attention_constant(96), (kLog2E / std::sqrt(96.0F)) / 32.0F);
}

TEST(Attention, ATT_11_is_near_softmax) {  // ATT-4 to ATT-12
    for (const Visible visible : {Visible{0, 0}, Visible{0, 63}, Visible{0, 64}, Visible{5, 1500},
                                  Visible{0, 2299}, Visible{1000, 1100}}) {
        for (std::size_t query = 0; query < kQueries.q.size(); ++query) {
            std::vector<double> o(kDim);
            double sum = 0.0;
            double spread = 0.0;
            for (auto j = static_cast<std::size_t>(visible.first);
                 j <= static_cast<std::size_t>(visible.last); ++j) {
                double dot = 0.0;
                for (std::size_t i = 0; i < kDim; ++i)
                    dot += kQueries.q[query][i] * kKeys.q[j][i];
                const double x = dot * static_cast<double>(kKeys.scales[j]) *
                                 static_cast<double>(kQueries.scales[query]) / 64.0;
                const double p = std::exp(x / std::sqrt(static_cast<double>(kDim)));
                sum += p;
                for (std::size_t i = 0; i < kDim; ++i) {
                    const double value = kValues.q[j][i] * static_cast<double>(kValues.scales[j]);
                    o[i] += p * value;
                    spread = std::max(spread, std::abs(value));
                }
            }
            const auto ours = attended(visible, kKeys, kValues, query);
            for (std::size_t i = 0; i < kDim; ++i)
                ASSERT_NEAR(static_cast<double>(ours[i]), o[i] / sum, 0.004 * spread);
        }
    }
}

TEST(Attention, ATT_2_invisible_keys_are_not_read) {  // ATT-2
    Cache keys = kKeys;
    Cache values = kValues;
    for (std::size_t j = 0; j < keys.q.size(); ++j) {
        if (j >= 1000 && j <= 1100) continue;
        keys.scales[j] = INFINITY;
        values.scales[j] = INFINITY;
    }
    EXPECT_EQ(attended({1000, 1100}, keys, values), attended({1000, 1100}));
}

TEST(Attention, ATT_7_zero_scales_give_zero) {  // ATT-7, ATT-8
    Cache values = kValues;
    std::fill(values.scales.begin(), values.scales.end(), 0.0F);
    EXPECT_EQ(attended({0, 200}, kKeys, values), std::vector<float>(kDim, 0.0F));
}

TEST(Attention, ATT_9_far_pages_count_nothing) {  // ATT-9, ATT-10
    Cache keys = kKeys;
    for (std::size_t j = 64; j < keys.q.size(); ++j) {  // page 0 wins by more than 2^64
        for (std::size_t i = 0; i < kDim; ++i)
            keys.q[j][i] = static_cast<std::int8_t>(-kQueries.q[0][i]);
        keys.scales[j] = 10.0F;
    }
    EXPECT_EQ(attended({0, 2000}, keys), attended({0, 63}, keys));
    Cache late = kKeys;
    late.q[1024] = kQueries.q[0];  // the first key of chunk 1 wins over chunk 0
    late.scales[1024] = 10.0F;
    EXPECT_EQ(attended({0, 1024}, late), attended({1024, 1024}, late));
}

TEST(Attention, ATT_11_example) {  // ATT-4 to ATT-11
    const std::array<std::int8_t, 1> zero{0};
    const std::array<std::int8_t, 1> v{127};
    const auto key = [&](std::int64_t) { return CachedVector{zero, 0.0F}; };
    const auto value = [&](std::int64_t) { return CachedVector{v, 0.5F}; };
    std::array<float, 1> o{};
    ASSERT_TRUE(attend(zero, 0.0F, key, value, {0, 0}, o));
    EXPECT_EQ(o[0], (130048.0F * 0x1p-11F) * ((1.0F / 65531.0F) * 65536.0F));
}

TEST(Attention, ATT_7_extreme_scales_stay_finite) {  // ATT-7
    for (const float scale : {1e-30F / 127.0F, 1e30F}) {
        Cache values = kValues;
        std::fill(values.scales.begin(), values.scales.end(), scale);
        for (const float value : attended({0, 300}, kKeys, values))
            ASSERT_LE(std::abs(value), 127.5F * scale);
    }
}

TEST(Attention, ERR_2_exponents_out_of_range) {  // ERR-2
    for (const float scale : {1e10F, 3e36F, -3e36F}) {
        Cache keys = kKeys;
        keys.q[3] = kQueries.q[0];
        keys.scales[3] = scale;
        std::vector<float> o(kDim, 1.0F);
        const auto first = std::int64_t{3};
        EXPECT_FALSE(attend(kQueries.q[0], kQueries.scales[0], keys.reader(), kValues.reader(),
                            {first, first}, o));
        EXPECT_EQ(o, std::vector<float>(kDim, 0.0F));
    }
}

}  // namespace
}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// The rotation: which one a length gets, that it is orthogonal, and that the inverse undoes it.
#include "exact/rotate.h"

#include <cmath>
#include <gtest/gtest.h>
#include <numeric>
#include <vector>

namespace etalon::exact {
namespace {

std::vector<float> ramp(int n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>(static_cast<int>(i * 37 % 101) - 50);
    return x;
}

TEST(Rotate, ROT_2_lengths) {  // ROT-2
    EXPECT_TRUE(rotation_for(96).identity());
    EXPECT_EQ(rotation_for(576).block, 64);
    EXPECT_TRUE(rotation_for(576).dct);
    EXPECT_EQ(rotation_for(1536).m, 3);
    EXPECT_TRUE(rotation_for(1536).dct);
    EXPECT_FALSE(rotation_for(14336).dct);  // 7 * 2048
    EXPECT_FALSE(rotation_for(64 * 17).dct);
    EXPECT_FALSE(rotation_for(4096).dct);
}

TEST(Rotate, ROT_3_butterfly_twice_is_the_length_times) {  // ROT-3, ROT-6
    std::vector<float> x = ramp(256);
    const int block = head_rotation_for(192).block;
    EXPECT_EQ(block, 64);
    butterfly(block, x);
    butterfly(block, x);
    const std::vector<float> once = ramp(256);
    for (std::size_t i = 0; i < x.size(); ++i)
        EXPECT_EQ(x[i], once[i] * 64.0F);
    std::vector<float> pair{3.0F, 1.0F};
    butterfly(2, pair);
    EXPECT_EQ(pair, (std::vector<float>{4.0F, 2.0F}));
}

TEST(Rotate, ROT_4_tables_are_the_orthonormal_dct) {  // ROT-4
    for (int m = 3; m <= 15; m += 2) {
        const auto c = dct_table(m);
        const auto n = static_cast<std::size_t>(m);
        for (std::size_t i = 0; i < n; ++i) {
            for (std::size_t j = 0; j < n; ++j) {
                const double norm = std::sqrt((i == 0 ? 1.0 : 2.0) / m);
                const double angle =
                    std::acos(-1.0) * (static_cast<double>(j) + 0.5) * static_cast<double>(i) / m;
                ASSERT_NEAR(static_cast<double>(c[i * n + j]), norm * std::cos(angle), 3e-8);
            }
        }
    }
}

TEST(Rotate, ROT_5_signs_are_frozen_and_balanced) {  // ROT-5
    int sum = 0;
    for (int i = 0; i < 4096; ++i)
        sum += static_cast<int>(rotation_sign(i));
    EXPECT_LT(std::abs(sum), 256);
    // The first outputs of splitmix64 from 0 are e220a8397b1dcdaf, 6e789e6aa1b965f4.
    EXPECT_EQ(rotation_sign(0), -1.0F);
    EXPECT_EQ(rotation_sign(1), 1.0F);
}

TEST(Rotate, ROT_7_the_inverse_undoes_the_rotation) {  // ROT-1, ROT-7
    for (const int k : {96, 576, 1536, 960, 2048, 64 * 15, 64 * 17}) {
        const Rotation rotation = rotation_for(k);
        const auto n = static_cast<std::size_t>(k);
        const std::vector<float> x = ramp(k);
        std::vector<double> w(n);
        double expected = 0.0;
        double size = 0.0;
        for (std::size_t i = 0; i < n; ++i) {
            w[i] = std::sin(static_cast<double>(i) * 1.7);
            expected += w[i] * static_cast<double>(x[i]);
            size += std::abs(w[i] * static_cast<double>(x[i]));
        }
        std::vector<float> z = x;  // signs first, as norm weights hold them
        for (std::size_t i = 0; i < n; ++i)
            z[i] *= rotation_sign(static_cast<int>(i));
        std::vector<float> scratch(n);
        std::vector<double> scratch_wide(n);
        rotate(rotation, z, scratch);
        unrotate_weights_row(rotation, w, scratch_wide);
        double sum = 0.0;
        for (std::size_t i = 0; i < n; ++i)
            sum += w[i] * static_cast<double>(z[i]);
        EXPECT_NEAR(sum, expected, 1e-6 * size) << k;
    }
}

TEST(Rotate, ROT_7_orthonormal_is_its_own_inverse) {  // ROT-7
    std::vector<double> x(128);
    std::iota(x.begin(), x.end(), -40.0);
    const std::vector<double> before = x;
    rotate_orthonormal(64, x);
    rotate_orthonormal(64, x);
    for (std::size_t i = 0; i < x.size(); ++i)
        EXPECT_NEAR(x[i], before[i], 1e-12 * 128);
}

}  // namespace
}  // namespace etalon::exact

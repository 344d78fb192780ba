// SPDX-License-Identifier: Apache-2.0
// The rotation (spec ROT-1 to ROT-7).
#include "exact/rotate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "base/error.h"
#include "exact/math.h"

namespace etalon::exact {

namespace {

constexpr int kBlockMin = 64;           // shorter blocks are not worth a rotation (ROT-2)
constexpr int kBlockWithoutDct = 1024;  // blocks this long spread enough by themselves (ROT-2)
constexpr int kDctMin = 3;
constexpr int kDctMax = 15;

int largest_power_of_two_in(int k) noexcept {
    return k & -k;
}

template <typename T>
void butterfly_blocks(std::size_t block, std::span<T> x) noexcept {  // ROT-3
    for (std::size_t begin = 0; begin < x.size(); begin += block) {
        for (std::size_t stride = 1; stride < block; stride *= 2) {
            for (std::size_t i = 0; i < block; ++i) {
                if ((i & stride) != 0) continue;
                const T a = x[begin + i];
                const T b = x[begin + i + stride];
                x[begin + i] = a + b;
                x[begin + i + stride] = a - b;
            }
        }
    }
}

}  // namespace

Rotation rotation_for(int k) noexcept {  // ROT-2
    ETALON_ASSERT(k >= 1);
    const int block = largest_power_of_two_in(k);
    if (block < kBlockMin) return {k, 1, k, false};
    const int m = k / block;
    return {k, block, m, block < kBlockWithoutDct && m >= kDctMin && m <= kDctMax};
}

Rotation head_rotation_for(int head_dim) noexcept {  // ROT-6
    ETALON_ASSERT(head_dim >= 1);
    const int block = largest_power_of_two_in(head_dim);
    return {head_dim, block, head_dim / block, false};
}

float rotation_sign(int i) noexcept {  // ROT-5
    std::uint64_t z = (static_cast<std::uint64_t>(i) + 1) * 0x9E3779B97F4A7C15U;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    z ^= z >> 31;
    return (z >> 63) != 0 ? -1.0F : 1.0F;
}

void butterfly(int block, std::span<float> x) noexcept {
    ETALON_ASSERT(block >= 1 && x.size() % static_cast<std::size_t>(block) == 0);
    butterfly_blocks(static_cast<std::size_t>(block), x);
}

void rotate(const Rotation& rotation, std::span<float> x, std::span<float> scratch) noexcept {
    ETALON_ASSERT(x.size() == static_cast<std::size_t>(rotation.k));
    butterfly(rotation.block, x);
    if (!rotation.dct) return;
    ETALON_ASSERT(scratch.size() >= x.size());
    const auto block = static_cast<std::size_t>(rotation.block);
    const auto m = static_cast<std::size_t>(rotation.m);
    const std::span<const float> c = dct_table(rotation.m);
    std::copy(x.begin(), x.end(), scratch.begin());
    for (std::size_t i = 0; i < m; ++i) {  // ROT-4
        for (std::size_t p = 0; p < block; ++p) {
            float sum = 0.0F;
            for (std::size_t j = 0; j < m; ++j)
                sum = fma(c[i * m + j], scratch[j * block + p], sum);
            x[i * block + p] = sum;
        }
    }
}

void unrotate_weights_row(const Rotation& rotation, std::span<double> row,
                          std::span<double> scratch) noexcept {  // ROT-7
    ETALON_ASSERT(row.size() == static_cast<std::size_t>(rotation.k));
    ETALON_ASSERT(scratch.size() >= row.size());
    for (std::size_t i = 0; i < row.size(); ++i) {
        row[i] *= static_cast<double>(rotation_sign(static_cast<int>(i)));
    }
    const auto block = static_cast<std::size_t>(rotation.block);
    butterfly_blocks(block, row);
    for (double& value : row)
        value /= static_cast<double>(block);  // exact: a power of two
    if (!rotation.dct) return;
    const auto m = static_cast<std::size_t>(rotation.m);
    const std::span<const float> c = dct_table(rotation.m);
    std::copy(row.begin(), row.end(), scratch.begin());
    for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t p = 0; p < block; ++p) {
            double sum = 0.0;
            for (std::size_t j = 0; j < m; ++j) {
                sum += static_cast<double>(c[i * m + j]) * scratch[j * block + p];
            }
            row[i * block + p] = sum;
        }
    }
}

void rotate_orthonormal(int block, std::span<double> x) noexcept {  // ROT-7
    ETALON_ASSERT(block >= 1 && x.size() % static_cast<std::size_t>(block) == 0);
    butterfly_blocks(static_cast<std::size_t>(block), x);
    const double norm = std::sqrt(static_cast<double>(block));
    for (double& value : x)
        value /= norm;
}

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// The rotation that spreads outliers before a vector is quantised (spec ROT-1 to ROT-7).
#pragma once

#include <span>

namespace etalon::exact {

/// How a vector of k = m * block elements (m odd) is rotated (ROT-2). Example: k = 576 = 9 * 64 is
/// a butterfly over 9 blocks of 64, then a DCT of length 9 across the blocks.
struct Rotation {
    int k = 0;
    int block = 1;     ///< power of two; 1: the vector is not rotated
    int m = 0;         ///< k / block
    bool dct = false;  ///< a DCT of length m runs across the blocks

    bool identity() const noexcept { return block == 1 && !dct; }
};

/// The rotation of linear inputs of k elements (ROT-2). k >= 1.
Rotation rotation_for(int k) noexcept;
/// The rotation of queries and keys over a head: blocks of its power of two, nothing across
/// (ROT-6).
Rotation head_rotation_for(int head_dim) noexcept;

/// The sign of channel i, +1 or -1; at run time it lives in norm weights and rows of `up` (ROT-5).
float rotation_sign(int i) noexcept;

/// Unnormalised butterfly over each block, strides ascending, (a + b, a - b) (ROT-3).
void butterfly(int block, std::span<float> x) noexcept;
/// x := R x without the signs: butterfly, then DCT (ROT-3, ROT-4). `scratch` has k elements.
void rotate(const Rotation& rotation, std::span<float> x, std::span<float> scratch) noexcept;

/// A weight row times the inverse of R, in binary64 (ROT-7): signs, butterfly / block, DCT.
void unrotate_weights_row(const Rotation& rotation, std::span<double> row,
                          std::span<double> scratch) noexcept;
/// The orthonormal butterfly over each block in binary64: H x / sqrt(block) (ROT-7). It is its own
/// inverse; import applies it to the rows of V and the columns of o.
void rotate_orthonormal(int block, std::span<double> x) noexcept;

/// C[m][m] of the orthonormal DCT-II, m odd in [3, 15] (ROT-4).
std::span<const float> dct_table(int m);

}  // namespace etalon::exact

// SPDX-License-Identifier: Apache-2.0
// Steps of a butterfly over elements that stand as a square of rows of 64 (spec ROT-3, QNT-1),
// shared by norm_rows.cu and rotate_rows.cu.
#pragma once

#include "backend/cuda/common/butterfly.cuh"
#include "backend/cuda/common/exact_math.cuh"

namespace etalon::backend::cuda {

inline constexpr int kSquareRow = 64;  // elements of a row
inline constexpr int kSquareQuads = kSquareRow / 4;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The strides from kFirst to 32 of a row, which is the thread's own. It is a quad longer than its
/// elements, so that eight lanes meet in no bank.
template <int kFirst>
__device__ void turn_row(float4 (&row)[kSquareQuads + 1]) {
    float v[kSquareRow];
#pragma unroll
    for (int i = 0; i < kSquareQuads; ++i) {
        const float4 quad = row[i];
        v[4 * i] = quad.x;
        v[4 * i + 1] = quad.y;
        v[4 * i + 2] = quad.z;
        v[4 * i + 3] = quad.w;
    }
    butterfly_own<kFirst, kSquareRow / 2>(v);
#pragma unroll
    for (int i = 0; i < kSquareQuads; ++i)
        row[i] = {v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]};
}

/// The largest magnitude after the stride of the highest bit, ahead of it: of abs(a + b) and
/// abs(a - b) the larger one is abs(a) + abs(b), also rounded, and no finite number where one of
/// them is none (QNT-1, ERR-1).
__device__ inline std::uint32_t largest_bits(const float (&v)[kSquareRow]) {
    std::uint32_t largest = 0;
#pragma unroll
    for (int i = 0; i < kSquareRow / 2; ++i)
        largest = max(largest, __float_as_uint(add(fabsf(v[i]), fabsf(v[i + kSquareRow / 2]))));
    return largest;
}

#endif

}  // namespace etalon::backend::cuda

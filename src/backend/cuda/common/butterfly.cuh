// SPDX-License-Identifier: Apache-2.0
// The butterfly of the rotation over what a thread has in registers (spec ROT-3).
#pragma once

#include "backend/cuda/common/exact_math.cuh"

namespace etalon::backend::cuda {

/// Strides kFrom to kTo of a thread's own elements, powers of two (ROT-3).
template <int kFrom, int kTo, int kMine>
__device__ inline void butterfly_own(float (&v)[kMine]) {
#pragma unroll
    for (int stride = kFrom; stride <= kTo; stride *= 2) {
#pragma unroll
        for (int i = 0; i < kMine; ++i) {
            if ((i & stride) != 0) continue;
            const float a = v[i];
            const float b = v[i + stride];
            v[i] = add(a, b);
            v[i + stride] = sub(a, b);
        }
    }
}

}  // namespace etalon::backend::cuda

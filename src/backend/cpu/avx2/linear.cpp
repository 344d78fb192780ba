// SPDX-License-Identifier: Apache-2.0
// The kernels of linear layers in AVX2 and FMA.
#include <bit>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>

#include "backend/cpu/e4_table.h"
#include "backend/cpu/linear_kernels.h"
#include "exact/formats.h"
#include "exact/math.h"
#include "exact/norm.h"

// Everything shared is included above: what is compiled below may use the instruction set.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif

namespace etalon::backend::cpu {

namespace avx2 {

#include "backend/cpu/avx2/vector.inl"
// Primitives first, then the operations over them.
#include "backend/cpu/avx2/linear_dot.inl"
#include "backend/cpu/generic/lanes.inl"
// The layers: they use what stands above.
#include "backend/cpu/generic/linear.inl"
// The primitives of E4.
#include "backend/cpu/avx2/e4_lines.inl"
// Rows of E4, and products with them.
#include "backend/cpu/avx2/e4_dot.inl"
// Its layers.
#include "backend/cpu/generic/e4.inl"
// The table last.
#include "backend/cpu/generic/linear_table.inl"

}  // namespace avx2

constinit const LinearKernels kAvx2Linear = avx2::kLinear;

}  // namespace etalon::backend::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

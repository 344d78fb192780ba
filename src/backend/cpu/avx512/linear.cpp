// SPDX-License-Identifier: Apache-2.0
// The kernels of linear layers in AVX-512 with VNNI.
#include "backend/cpu/e4_table.h"
#include "backend/cpu/linear_kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the "undefined" operands inside its own AVX-512 intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <bit>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>

#include "exact/formats.h"
#include "exact/math.h"
#include "exact/norm.h"

// Everything shared is included above: what is compiled below may use the instruction set.
#if defined(__clang__)
#pragma clang attribute push(                                                               \
    __attribute__((target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")
#endif

namespace etalon::backend::cpu {

namespace avx512 {

#include "backend/cpu/avx512/vector.inl"
// Primitives first, then the operations over them.
#include "backend/cpu/avx512/linear_dot.inl"
#include "backend/cpu/generic/lanes.inl"
// The layers: they use what stands above.
#include "backend/cpu/generic/linear.inl"
// The primitives of E4.
#include "backend/cpu/avx2/e4_lines.inl"
// Rows of E4, and products with them.
#include "backend/cpu/avx512/e4_dot.inl"
// Its layers.
#include "backend/cpu/generic/e4.inl"
// The table last.
#include "backend/cpu/generic/linear_table.inl"

}  // namespace avx512

constinit const LinearKernels kAvx512Linear = avx512::kLinear;

}  // namespace etalon::backend::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// SPDX-License-Identifier: Apache-2.0
// The kernels in AVX2 and FMA.
#include "backend/cpu/kernels.h"

#if defined(__GNUC__) && !defined(__clang__)
// With sanitizers GCC 12 does not see that attend_page fills what it hands on.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <bit>
#include <cmath>
#include <cstring>
#include <immintrin.h>
#include <limits>

#include "backend/cpu/kv_cache.h"
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
// Primitives first, then the operations over them, as in generic/.
#include "backend/cpu/avx2/attention_dot.inl"
#include "backend/cpu/generic/lanes.inl"
// Rows before attention, which uses them.
#include "backend/cpu/generic/float_rows.inl"
#include "backend/cpu/generic/sampling.inl"
// Attention in its turn.
#include "backend/cpu/generic/attention.inl"
// The table last: it names what stands above.
#include "backend/cpu/generic/table.inl"

}  // namespace avx2

constinit const Kernels kAvx2Kernels = avx2::make_table("cpu/avx2");

}  // namespace etalon::backend::cpu

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// SPDX-License-Identifier: Apache-2.0
// The kernels in plain C++ for any processor.
#include "backend/cpu/kernels.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/kv_cache.h"
#include "exact/formats.h"
#include "exact/math.h"
#include "exact/norm.h"

namespace etalon::backend::cpu {

namespace generic {

#include "backend/cpu/generic/vector.inl"
// One lane first, then the operations over it.
#include "backend/cpu/generic/attention_dot.inl"
#include "backend/cpu/generic/lanes.inl"
// Rows before attention, which uses them.
#include "backend/cpu/generic/float_rows.inl"
#include "backend/cpu/generic/sampling.inl"
// Attention in its turn.
#include "backend/cpu/generic/attention.inl"
// The table last: it names what stands above.
#include "backend/cpu/generic/table.inl"

}  // namespace generic

constinit const Kernels kGenericKernels = generic::make_table("cpu/generic");

}  // namespace etalon::backend::cpu

// SPDX-License-Identifier: Apache-2.0
// The kernels of linear layers in plain C++ for any processor.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "backend/cpu/e4_table.h"
#include "backend/cpu/linear_kernels.h"
#include "exact/formats.h"
#include "exact/math.h"
#include "exact/norm.h"

namespace etalon::backend::cpu {

namespace generic {

#include "backend/cpu/generic/vector.inl"
// Primitives first, then the operations over them.
#include "backend/cpu/generic/lanes.inl"
#include "backend/cpu/generic/linear_dot.inl"
// The layers: they use what stands above.
#include "backend/cpu/generic/linear.inl"
// The primitives of E4.
#include "backend/cpu/generic/e4_dot.inl"
// Its layers.
#include "backend/cpu/generic/e4.inl"
// The table last.
#include "backend/cpu/generic/linear_table.inl"

}  // namespace generic

constinit const LinearKernels kGenericLinear = generic::kLinear;

}  // namespace etalon::backend::cpu

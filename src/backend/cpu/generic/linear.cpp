// SPDX-License-Identifier: Apache-2.0
// The kernels of linear layers in plain C++ for any processor.
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

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
// The layers last: they use what stands above.
#include "backend/cpu/generic/linear.inl"

}  // namespace generic

constinit const LinearKernels kGenericLinear = generic::kLinear;

}  // namespace etalon::backend::cpu

// SPDX-License-Identifier: Apache-2.0
// Constants of src/backend/cuda/common/reduce.cuh.
#pragma once

#include "backend/emulated/block.h"

namespace etalon::backend::cuda {

inline constexpr int kWarpLanes = emulated::kWarpThreads;

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Kernels follow each other.
#pragma once

namespace etalon::backend::cuda {

inline void wait_for_kernels_before() {}
inline void let_next_kernel_start() {}

}  // namespace etalon::backend::cuda

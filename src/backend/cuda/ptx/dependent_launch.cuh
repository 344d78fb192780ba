// SPDX-License-Identifier: Apache-2.0
// Programmatic dependent launch (sm_90): a kernel may start while the one before it still runs and
// read what that one does not write. On older cards both calls do nothing, and kernels follow each
// other as usual.
#pragma once

namespace etalon::backend::cuda {

/// Returns when all kernels before are complete and their results can be read.
__device__ inline void wait_for_kernels_before() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

/// Lets the kernel behind start as soon as every block of this one has called it or ended.
__device__ inline void let_next_kernel_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Meetings of blocks that run at the same time, by counters in global memory.
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

/// One arrival; what the thread wrote, and what it saw of others behind a barrier of its block, is
/// seen by who waits for it.
__device__ inline void meeting_arrive(std::uint32_t* counter) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}

/// Returns when `n` have arrived since the counter was 0.
__device__ inline void meeting_wait(const std::uint32_t* counter, std::uint32_t n) {
    std::uint32_t seen;
    do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (seen < n);
}

/// The same without order: who waits knows nothing about what the other threads wrote.
__device__ inline void hint_arrive(std::uint32_t* counter) {
    asm volatile("red.relaxed.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
__device__ inline void hint_wait(const std::uint32_t* counter, std::uint32_t n) {
    std::uint32_t seen;
    do {
        asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    } while (seen < n);
}

}  // namespace etalon::backend::cuda

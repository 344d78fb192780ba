// SPDX-License-Identifier: Apache-2.0
// Loads past the first cache, and asynchronous copies to shared memory (sm_80).
#pragma once

#include <cstddef>
#include <cstdint>

namespace etalon::backend::cuda {

/// 16 bytes of weights, which are read once: the first cache keeps what is read again. Not `.nc`:
/// such loads the assembler moves behind wait_for_kernels_before().
__device__ inline int4 load_streaming(const int4* address) {
    int4 value;
    asm volatile("ld.global.L1::no_allocate.L2::256B.v4.s32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address));
    return value;
}

/// The same with 4 bytes; and 2 bytes and a signed byte, which the first cache may keep.
__device__ inline std::uint32_t load_streaming_4(const std::uint32_t* address) {
    std::uint32_t value;
    asm volatile("ld.global.L1::no_allocate.L2::256B.u32 %0, [%1];" : "=r"(value) : "l"(address));
    return value;
}
__device__ inline std::uint16_t load_2(const std::uint16_t* address) {
    std::uint16_t value;
    asm volatile("ld.global.u16 %0, [%1];" : "=h"(value) : "l"(address));
    return value;
}
__device__ inline int load_signed_1(const void* address) {
    int value;
    asm volatile("ld.global.s8 %0, [%1];" : "=r"(value) : "l"(address));
    return value;
}

/// Brings 128 bytes to the second cache.
__device__ inline void prefetch_line(const void* address) {
    asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

/// 16 bytes of shared memory by their address.
__device__ inline uint4 load_shared_16(std::uint32_t address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
                 : "r"(address));
    return v;
}

/// Where shared memory begins, kept in a register: the compiler would find it anew over and over,
/// which takes long on sm_90.
__device__ inline std::byte* keep_shared(void* shared) {
    auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    asm volatile("" : "+r"(address));
    return static_cast<std::byte*>(__cvta_shared_to_generic(address));
}

/// 16 bytes from global to shared memory; both addresses are multiples of 16.
__device__ inline void copy_async_16(void* to_shared, const void* from) {
    const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(to_shared));
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/// The same with 4 bytes.
__device__ inline void copy_async_4(void* to_shared, const void* from) {
    const auto to = static_cast<std::uint32_t>(__cvta_generic_to_shared(to_shared));
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

__device__ inline void copy_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/// Waits until at most `kLeft` of the committed groups are under way.
template <int kLeft>
__device__ inline void copy_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

}  // namespace etalon::backend::cuda

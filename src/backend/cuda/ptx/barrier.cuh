// SPDX-License-Identifier: Apache-2.0
// Barriers in shared memory that count threads and bytes, also across the blocks of a cluster
// (sm_90). A phase is complete when all arrivals and all announced bytes are in; waits name the
// parity of the phase, 0 first.
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

using Barrier = std::uint64_t;

__device__ inline std::uint32_t shared_address(const void* shared) {
    return static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
}

__device__ inline void barrier_init(Barrier& barrier, int n_arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(&barrier)),
                 "r"(n_arrivals)
                 : "memory");
}

/// Makes initialised barriers visible to the copy engine and to the cluster.
__device__ inline void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

/// One arrival.
__device__ inline void barrier_arrive(Barrier& barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(&barrier))
                 : "memory");
}

/// One arrival, and `bytes` more to come.
__device__ inline void barrier_arrive_expect(Barrier& barrier, int bytes) {
    asm volatile(
        "mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(&barrier)),
        "r"(bytes)
        : "memory");
}

/// One arrival at the same barrier of block `rank` of the cluster.
__device__ inline void barrier_arrive_at(Barrier& barrier, std::uint32_t rank) {
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
        "}" ::"r"(shared_address(&barrier)),
        "r"(rank)
        : "memory");
}

__device__ inline void barrier_wait(Barrier& barrier, int parity) {
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "AGAIN_%=:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra READY_%=;\n"
        "bra AGAIN_%=;\n"
        "READY_%=:\n"
        "}" ::"r"(shared_address(&barrier)),
        "r"(parity)
        : "memory");
}

/// Orders what this thread has read and stored in shared memory before what the tensor cores and
/// the copy engine do there behind the barrier that tells of it (PTX ISA, proxies).
__device__ inline void shared_proxy_fence() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// The same for a barrier by its address.
__device__ inline void barrier_arrive(std::uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// A build for racecheck of compute-sanitizer (-DETALON_CUDA_RACECHECK=ON), which does not follow
/// __syncwarp() to the arrival of one lane for its warp, wants a fence also between a read that has
/// its value and a copy, and knows no word that may change at any time. What it can follow makes
/// one stream and E4 1 % slower and changes no result.
#if defined(ETALON_CUDA_RACECHECK)
inline constexpr bool kForRacecheck = true;
#else
inline constexpr bool kForRacecheck = false;
#endif
inline constexpr int kWarpArrivals = kForRacecheck ? 32 : 1;

/// kWarpArrivals arrivals, if `ready`, of a warp whose lanes have read what others write next. No
/// branch around it: behind one the compiler would take products under way one after the other.
template <typename AnyBarrier>
__device__ void barrier_arrive_warp(AnyBarrier& barrier, int lane, bool ready = true) {
    if constexpr (kForRacecheck) {
        shared_proxy_fence();
        if (ready) barrier_arrive(barrier);
    } else {
        __syncwarp();
        if (ready && lane == 0) barrier_arrive(barrier);
    }
}

/// A word of shared memory that one thread sets while others read it, whenever they do.
__device__ inline int load_loose(int& word) {
    return kForRacecheck ? atomicAdd(&word, 0) : *const_cast<volatile int*>(&word);
}

__device__ inline void store_loose(int& word, int value) {
    if constexpr (kForRacecheck) {
        atomicExch(&word, value);
    } else {
        *const_cast<volatile int*>(&word) = value;
    }
}

/// Whether the phase is complete; it may wait a little.
__device__ inline bool barrier_try(std::uint32_t barrier, int parity) {
    std::uint32_t done;
    asm volatile(
        "{\n"
        ".reg .pred done;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2;\n"
        "selp.u32 %0, 1, 0, done;\n"
        "}"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
    return done != 0;
}
__device__ inline void barrier_wait(std::uint32_t barrier, int parity) {
    while (!barrier_try(barrier, parity)) {
    }
}

/// A place in a ring of stages, and the parity of its turn.
struct RingPlace {
    int stage = 0;
    int parity = 0;

    __device__ void next(int n_stages) {
        if (++stage < n_stages) return;
        stage = 0;
        parity ^= 1;
    }
};

/// Words of shared memory by their address; they stay where the program has them among barriers.
__device__ inline float4 load_shared_4(std::uint32_t address) {
    float4 v;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
                 : "r"(address));
    return v;
}

__device__ inline std::uint32_t cluster_rank() {
    std::uint32_t rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

/// All threads of all blocks of the cluster meet: the first half goes on, the second one waits.
__device__ inline void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ inline void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
__device__ inline void cluster_sync() {
    cluster_arrive();
    cluster_wait();
}

/// Writes a word to the same place of block `rank` of the cluster.
__device__ inline void store_at(std::uint32_t* shared, std::uint32_t value, std::uint32_t rank) {
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "st.shared::cluster.u32 [remote], %2;\n"
        "}" ::"r"(shared_address(shared)),
        "r"(rank), "r"(value)
        : "memory");
}

__device__ inline void store_at(std::uint64_t* shared, std::uint64_t value, std::uint32_t rank) {
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %0, %1;\n"
        "st.shared::cluster.u64 [remote], %2;\n"
        "}" ::"r"(shared_address(shared)),
        "r"(rank), "l"(value)
        : "memory");
}

/// A word from the same place of block `rank` of the cluster; as the other load_at().
__device__ inline std::uint32_t load_at(const std::uint32_t* shared, std::uint32_t rank) {
    std::uint32_t value;
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %1, %2;\n"
        "ld.shared::cluster.u32 %0, [remote];\n"
        "}"
        : "=r"(value)
        : "r"(shared_address(shared)), "r"(rank));
    return value;
}
/// 16 bytes from the same place of block `rank` of the cluster. Stays behind a barrier before it,
/// and other loads may pass it.
__device__ inline int4 load_at(const int4* shared, std::uint32_t rank) {
    int4 value;
    asm volatile(
        "{\n"
        ".reg .b32 remote;\n"
        "mapa.shared::cluster.u32 remote, %4, %5;\n"
        "ld.shared::cluster.v4.s32 {%0, %1, %2, %3}, [remote];\n"
        "}"
        : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
        : "r"(shared_address(shared)), "r"(rank));
    return value;
}

/// Barrier `id` (1 to 15) of `n_threads` threads of the block.
__device__ inline void named_sync(int id, int n_threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

/// Arrives at it and goes on; others wait by named_sync(). `n_threads` are all of both.
__device__ inline void named_arrive(int id, int n_threads) {
    asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Copies of tiles from a matrix in memory to shared memory by the copy engine (sm_90). A tensor map
// says where the matrix lies and how large a tile is (common/tensor_map.cuh); what lies outside of
// the matrix arrives as zero, and counts.
#pragma once

#include <cuda.h>

#include "backend/cuda/ptx/barrier.cuh"

namespace etalon::backend::cuda {

/// Brings the map near, ahead of the first copy by it.
__device__ inline void prefetch_map(const CUtensorMap& map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

/// The tile whose first element is (row, column); `barrier` counts its bytes.
__device__ inline void copy_tile(void* to_shared, const CUtensorMap& map, int column, int row,
                                 Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
        "[%0], [%1, {%2, %3}], [%4];" ::"r"(shared_address(to_shared)),
        "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
        : "memory");
}

/// As copy_tile, for what no other block reads, or reads at the same time: it leaves the second
/// cache first.
__device__ inline void copy_tile_once(void* to_shared, const CUtensorMap& map, int column, int row,
                                      Barrier& barrier) {
    asm volatile(
        "{\n"
        ".reg .b64 policy;\n"
        "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3}], [%4], policy;\n"
        "}" ::"r"(shared_address(to_shared)),
        "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier))
        : "memory");
}

/// As copy_tile_once, of a map by tensor_map_gate_up: gate and up in turns of eight rows, from row
/// `row` (a multiple of 16) in this order.
__device__ inline void copy_gate_up_once(void* to_shared, const CUtensorMap& map, int column,
                                         int row, Barrier& barrier) {
    asm volatile(
        "{\n"
        ".reg .b64 policy;\n"
        "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".L2::cache_hint [%0], [%1, {%2, %3, %3, %4}], [%5], policy;\n"
        "}" ::"r"(shared_address(to_shared)),
        "l"(&map), "r"(column), "r"(0), "r"(row / 16), "r"(shared_address(&barrier))
        : "memory");
}

/// As copy_tile, to the same place and barrier of every block of the cluster that `blocks` names.
__device__ inline void copy_tile_to_blocks(void* to_shared, const CUtensorMap& map, int column,
                                           int row, Barrier& barrier, std::uint16_t blocks) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to_shared)),
        "l"(&map), "r"(column), "r"(row), "r"(shared_address(&barrier)), "h"(blocks)
        : "memory");
}

/// The same to several blocks, as copy_tile_to_blocks.
__device__ inline void copy_gate_up_to_blocks(void* to_shared, const CUtensorMap& map, int column,
                                              int row, Barrier& barrier, std::uint16_t blocks) {
    asm volatile(
        "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes"
        ".multicast::cluster [%0], [%1, {%2, %3, %3, %4}], [%5], %6;" ::"r"(
            shared_address(to_shared)),
        "l"(&map), "r"(column), "r"(0), "r"(row / 16), "r"(shared_address(&barrier)), "h"(blocks)
        : "memory");
}

/// `bytes` that follow each other; addresses and number are multiples of 16.
__device__ inline void copy_bytes(void* to_shared, const void* from, int bytes, Barrier& barrier) {
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::
            "r"(shared_address(to_shared)),
        "l"(from), "r"(bytes), "r"(shared_address(&barrier))
        : "memory");
}

/// As copy_bytes, for what no other block reads: it leaves the second cache first.
__device__ inline void copy_bytes_once(void* to_shared, const void* from, int bytes,
                                       Barrier& barrier) {
    asm volatile(
        "{\n"
        ".reg .b64 policy;\n"
        "createpolicy.fractional.L2::evict_first.b64 policy, 1.0;\n"
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint "
        "[%0], [%1], %2, [%3], policy;\n"
        "}" ::"r"(shared_address(to_shared)),
        "l"(from), "r"(bytes), "r"(shared_address(&barrier))
        : "memory");
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// E4 weights from the lines of a file to groups (e4.cuh), and from groups to the rows of int8 that
// the kernels of E8 read.
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/e4.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 8;  // of a block, each of which takes a group
constexpr int kThreads = kWarps * kWarpLanes;
// Of the file (src/weights/layouts.md).
constexpr int kLineRows = 4;
constexpr int kLineColumns = 32;
constexpr int kLineBytes = 64;
constexpr int kTileLines = kE4TileRows / kLineRows;

/// Codes of 16 columns, renumbered, as nibbles.
__device__ uint2 renumbered(const uint4& bytes, int half, bool ascending) {
    const std::uint32_t words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
    std::uint32_t codes[2] = {};
#pragma unroll
    for (int i = 0; i < kE4LaneColumns; ++i) {
        const std::uint32_t code = words[i / 4] >> (8 * (i % 4) + 4 * half) & 15U;
        codes[i / 8] |= code << (4 * (i % 8));
    }
#pragma unroll
    for (std::uint32_t& word : codes) {
        word = (word >> 1 & 0x77777777U) | (word & 0x11111111U) << 3;
        if (ascending) word ^= 0x88888888U;
    }
    return {codes[0], codes[1]};
}

/// A copy of the file's bytes in another order.
///   in:  lines [ceil(R / 16) * 4, K / 32, 4, 16] and indices [ceil(R / 16) * 4, K / 32, 4]
///        (src/weights/layouts.md); ascending: bit s, whether row s of the table ascends
///   out: groups [ceil(R / 16), n_groups] (e4.cuh); chunks behind K are left alone, but 16 codes
///        behind K in the last chunk are those of zeros
///   tile: a warp a group
///   floor: 0.53 bytes a weight read and written, of the read speed
///   supported: K a multiple of 32
__global__ void __launch_bounds__(kThreads)
    e4_layout_sm80(const std::uint8_t* lines, const std::uint8_t* indices, int n_tiles, int n_lines,
                   int n_groups, std::uint32_t ascending, std::uint8_t* groups) {
    const int at = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / 32;
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    if (at >= n_tiles * n_groups) return;
    const int tile = at / n_groups;
    const int n_chunks = (n_lines + 1) / 2;
    std::uint8_t* group = groups + static_cast<std::size_t>(at) * kE4GroupBytes;
    for (int chunk = 0; chunk < kE4Chunks; ++chunk) {
        const int of_row = at % n_groups * kE4Chunks + chunk;
        if (of_row >= n_chunks) break;
        const int line = 2 * of_row + lane % 4 / 2;
        const int half = lane % 2;
        uint2 codes[2] = {};
        std::uint32_t both = 0;
#pragma unroll
        for (int high = 0; high < 2; ++high) {
            if (line >= n_lines) break;
            const int row = lane / 4 + 8 * high;
            const auto place =
                static_cast<std::size_t>(tile * kTileLines + row / kLineRows) * n_lines + line;
            const std::uint32_t index =
                indices[place * kLineRows + row % kLineRows] >> (4 * half) & 15U;
            const auto* from = lines + place * kLineBytes + row % kLineRows * kE4LaneColumns;
            codes[high] = renumbered(*reinterpret_cast<const uint4*>(from), half,
                                     (ascending >> index & 1U) != 0);
            both |= index << (4 * high);
        }
        reinterpret_cast<uint4*>(group)[chunk * kWarpLanes + lane] = {codes[0].x, codes[0].y,
                                                                      codes[1].x, codes[1].y};
        group[kE4CodeBytes + lane * kE4Chunks + chunk] = static_cast<std::uint8_t>(both);
    }
}

/// q[row, k] = T[index][code] (FMT-17).
///   in:  w.groups (e4.cuh)
///   out: q int8 [R, stride]; behind K anything in [-127, 127], which meets zeros of the input
///   tile: a warp a group, which is loaded before the kernels ahead have ended
///   floor: 0.53 bytes a weight read and 1 written, of the read speed
///   supported: any R, stride a multiple of 64
__global__ void __launch_bounds__(kThreads)
    e4_rows_sm80(E4View w, const __grid_constant__ E4Table table, int n_groups, std::int8_t* q) {
    __shared__ E4Room room;
    let_next_kernel_start();
    load_e4_rows<E4Form::bits>(table, room.rows());
    const int n_tiles = (w.n_rows + kE4TileRows - 1) / kE4TileRows;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const auto at = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp;
    const bool there = at < static_cast<std::int64_t>(n_tiles) * n_groups;
    E4Words words{};
    if (there) words.load(w.groups + at * kE4GroupBytes, lane);
    __syncthreads();
    wait_for_kernels_before();  // the one ahead may read what is in q
    if (!there) return;
    const E4Lookup lookup(room.rows());
    const int row = static_cast<int>(at / n_groups) * kE4TileRows + lane / 4;
    const int first = static_cast<int>(at % n_groups) * kE4Columns;
#pragma unroll
    for (int chunk = 0; chunk < kE4Chunks; ++chunk) {
        const int column = first + chunk * kE4ChunkColumns;
        if (column >= w.stride) break;
        const E4Pair pair(words, lookup, chunk);
        std::int8_t* to =
            q + static_cast<std::size_t>(row) * w.stride + column + lane % 4 * kE4LaneColumns;
        if (row < w.n_rows) *reinterpret_cast<int4*>(to) = pair.low.values();
        to += static_cast<std::size_t>(8) * w.stride;
        if (row + 8 < w.n_rows) *reinterpret_cast<int4*>(to) = pair.high.values();
    }
}

}  // namespace

void launch_e4_layout(const std::byte* lines, const std::byte* indices, int n_rows, int n_cols,
                      std::uint32_t ascending, std::byte* groups, Stream stream) {
    ETALON_ASSERT(n_cols % kLineColumns == 0 && n_rows >= 1);
    const int n_tiles = (n_rows + kE4TileRows - 1) / kE4TileRows;
    const int n_groups = (n_cols + kE4Columns - 1) / kE4Columns;
    const unsigned n = static_cast<unsigned>(n_tiles) * static_cast<unsigned>(n_groups);
    e4_layout_sm80<<<(n + kWarps - 1) / kWarps, kThreads, 0, stream>>>(
        reinterpret_cast<const std::uint8_t*>(lines),
        reinterpret_cast<const std::uint8_t*>(indices), n_tiles, n_cols / kLineColumns, n_groups,
        ascending, reinterpret_cast<std::uint8_t*>(groups));
    check_launch("e4_layout");
}

void launch_e4_rows(const E4View& w, const E4Table& table, std::int8_t* q, Stream stream) {
    ETALON_ASSERT(w.n_rows >= 1 && w.stride % kRowAlignment == 0);
    const int n_tiles = (w.n_rows + kE4TileRows - 1) / kE4TileRows;
    const int n_groups = (w.stride + kE4Columns - 1) / kE4Columns;
    const unsigned n = static_cast<unsigned>(n_tiles) * static_cast<unsigned>(n_groups);
    launch_dependent("e4_rows", e4_rows_sm80, dim3((n + kWarps - 1) / kWarps), kThreads, 0, stream,
                     w, table, n_groups, q);
}

}  // namespace etalon::backend::cuda

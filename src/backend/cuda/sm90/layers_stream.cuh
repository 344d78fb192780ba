// SPDX-License-Identifier: Apache-2.0
// The stream of weights of decode_layers.cu: a block's part of every matrix, the ring through which
// it comes, and its products with the codes of the tokens (spec LIN-2).
#pragma once

#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda::layers {

inline constexpr int kWarps = 8;  // that compute
inline constexpr int kThreads = kWarps * kWarpLanes;
inline constexpr int kCopyThreads = 128;  // one of them starts the copies
inline constexpr int kComputeRegisters = 224;
inline constexpr int kCopyRegisters = 56;
inline constexpr int kComputeBarrier = 1;

inline constexpr int kSlotRows = 4;
inline constexpr int kPartMax = 4096;  // bytes of a row in a slot
inline constexpr int kSlotBytes = kSlotRows * kPartMax;
/// Slots that are copied at the same time: while a block multiplies; between matrices, when what
/// the blocks write and read would wait behind more; and around attention, which takes longer than
/// the ring takes to fill.
inline constexpr int kUnderWay = 3;
inline constexpr int kUnderWayBetween = 2;
inline constexpr int kUnderWayAttention = 2;
inline constexpr int kStep = kWarpLanes * static_cast<int>(sizeof(int4));  // of a warp along a row

inline constexpr int kMine = 16;                 // elements of a thread
inline constexpr int kRound = kMine * kThreads;  // elements of h that are rotated together
inline constexpr int kRounds = 2;                // of h, and of the heads
inline constexpr int kRowsMax = kThreads;        // of a block in one matrix: a thread finishes one
inline constexpr int kSharedMax = 227 * 1024;

// The blocks take whole units of rows, so that who makes them can do the first strides of the
// butterfly that comes next: units of 2^kDimUnitBits rows of h, of 2^kHiddenUnitBits pairs.
inline constexpr int kQkvUnit = 4;
inline constexpr int kDimUnitBits = 4;
inline constexpr int kHiddenUnitBits = 4;
inline constexpr int kLaneBits = 5;  // of a lane's number

inline constexpr int kDim = kLayersHeadDim;
inline constexpr int kLaneDims = kDim / kWarpLanes;
inline constexpr int kState = static_cast<int>(attention_state_floats(kDim));

/// Where element e of a round lies in shared memory: 4 words are left free behind 16, and 16 behind
/// 256, so that the lanes of a warp meet in few banks whichever four bits of e they do not own.
__host__ __device__ constexpr int place_of(int e) {
    return e + (e >> 4) * 4 + (e >> 8) * 16;
}
inline constexpr int kRoundBytes = place_of(kRound) * static_cast<int>(sizeof(float));

/// The part of a matrix that a block multiplies; the same in every layer.
struct Share {
    int n_cols;
    int first;       // row
    int n;           // rows, or pairs of rows
    int second;      // pairs: rows from one of a pair to the other; 0: no pairs
    int n_rows;      // of all
    int n_parts;     // of a row
    int part_bytes;  // of each but the last
    int n_slots;

    __device__ void set(int n_units, int unit, int columns, int to_second) {
        const auto begin = [&](unsigned i) {
            return unit * static_cast<int>(static_cast<std::uint64_t>(n_units) * i / gridDim.x);
        };
        n_cols = columns;
        first = begin(blockIdx.x);
        n = begin(blockIdx.x + 1) - first;
        second = to_second;
        n_rows = second == 0 ? n : 2 * n;
        n_parts = (n_cols + kPartMax - 1) / kPartMax;
        part_bytes = (n_cols / n_parts + kStep - 1) / kStep * kStep;
        n_slots = (n_rows + kSlotRows - 1) / kSlotRows * n_parts;
    }
    __device__ int row(int i) const { return i < n ? first + i : first + i - n + second; }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The ring of slots: the same places for who fills and who reads.
struct Ring {
    std::int8_t* slots;
    Barrier* full;
    Barrier* empty;
    int n_slots;
};

/// Where the next slot of the ring lies, and the parity of its turn.
struct Cursor {
    int slot;
    int parity;

    __device__ void next(int n_slots) {
        if (++slot < n_slots) return;
        slot = 0;
        parity ^= 1;
    }
};

/// Copies the block's rows of every matrix in their order, as far ahead as the ring has room: a
/// warp, of which a lane starts the copy of a row.
__device__ inline void stream_weights(const LayersView& view, const Share (&shares)[kLayerMatrices],
                                      const Ring& ring, const volatile int& under_way_max) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int n_ring = ring.n_slots;
    Cursor to{0, 0};
    Cursor landed{0, 0};
    int under_way = 0;  // slots from `landed` to `to`
    for (int i = 0; i < view.n_layers; ++i) {
#pragma unroll 1
        for (int m = 0; m < kLayerMatrices; ++m) {
            const std::int8_t* q = view.layers[i].matrices[m].q;
            const int n_rows = shares[m].n_rows;
            const int n_cols = shares[m].n_cols;
            const int part_bytes = shares[m].part_bytes;
#pragma unroll 1
            for (int row = 0; row < n_rows; row += kSlotRows) {
                const int n = min(kSlotRows, n_rows - row);
                const auto at =
                    static_cast<std::size_t>(shares[m].row(min(row + lane, n_rows - 1)));
                const std::int8_t* from = q + at * static_cast<std::size_t>(n_cols);
#pragma unroll 1
                for (int begin = 0; begin < n_cols; begin += part_bytes) {
                    const int bytes = min(part_bytes, n_cols - begin);
                    Barrier& full = ring.full[to.slot];
                    barrier_wait(ring.empty[to.slot], to.parity ^ 1);  // the first turn waits not
                    const int limit = __shfl_sync(kFullWarp, under_way_max, 0);
                    while (under_way >= limit) {
                        barrier_wait(ring.full[landed.slot], landed.parity);
                        landed.next(n_ring);
                        --under_way;
                    }
                    if (lane == 0) barrier_arrive_expect(full, n * bytes);
                    __syncwarp();
                    if (lane < n)
                        copy_bytes_once(ring.slots + to.slot * kSlotBytes + lane * bytes,
                                        from + begin, bytes, full);
                    to.next(n_ring);
                    ++under_way;
                }
            }
        }
    }
}

__device__ inline void sync() {
    named_sync(kComputeBarrier, kThreads);
}

/// The products of a slot's rows with each token.
template <int kTokens>
__device__ void multiply(const std::int8_t* slot, const std::int8_t* x, int x_stride, int bytes,
                         int lane, int (&sums)[kSlotRows][kTokens]) {
    const auto* w = reinterpret_cast<const int4*>(slot);
    const int row = bytes / static_cast<int>(sizeof(int4));
#pragma unroll 4
    for (int i = lane; i < row; i += kWarpLanes) {
        int4 words[kSlotRows];
#pragma unroll
        for (int r = 0; r < kSlotRows; ++r)
            words[r] = w[r * row + i];
#pragma unroll
        for (int t = 0; t < kTokens; ++t) {
            const int4 v = reinterpret_cast<const int4*>(x + t * x_stride)[i];
#pragma unroll
            for (int r = 0; r < kSlotRows; ++r) {
                int sum = sums[r][t];
                sum = __dp4a(words[r].x, v.x, sum);
                sum = __dp4a(words[r].y, v.y, sum);
                sum = __dp4a(words[r].z, v.z, sum);
                sums[r][t] = __dp4a(words[r].w, v.w, sum);
            }
        }
    }
}

/// The slots of a warp: every kWarps-th of all.
struct Place {
    int i;       // slot of the matrix
    int slot;    // of the ring
    int parity;  // of its turn
    bool first_turn;
};

/// Adds to `to` the products of the block's rows with the codes x; `place` goes on to the next
/// matrix.
template <int kTokens>
__device__ void multiply_share(const Share& share, const Ring& ring, Place& place,
                               const std::int8_t* x, int (&to)[kTokens][kRowsMax]) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int n_cols = share.n_cols;
    const int n_parts = share.n_parts;
    const int part_bytes = share.part_bytes;
    const int n_rows = share.n_rows;
    const int n_slots = share.n_slots;
    int group = place.i / n_parts;
    int part = place.i % n_parts;
    const int group_step = kWarps / n_parts;
    const int part_step = kWarps % n_parts;
    for (; place.i < n_slots; place.i += kWarps) {
        const int begin = part * part_bytes;
        const int bytes = min(part_bytes, n_cols - begin);
        int sums[kSlotRows][kTokens] = {};
        // Another warp had the slot before. While that has not read it, the parity of `full` says
        // nothing about this turn.
        if (!place.first_turn) barrier_wait(ring.empty[place.slot], place.parity ^ 1);
        barrier_wait(ring.full[place.slot], place.parity);
        multiply<kTokens>(ring.slots + place.slot * kSlotBytes, x + begin, n_cols, bytes, lane,
                          sums);
        __syncwarp();
        if (lane == 0) barrier_arrive(ring.empty[place.slot]);
        const int row = group * kSlotRows;
#pragma unroll
        for (int r = 0; r < kSlotRows; ++r) {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                const int sum = __reduce_add_sync(kFullWarp, sums[r][t]);
                if (lane == r * kTokens + t && row + r < n_rows) atomicAdd(&to[t][row + r], sum);
            }
        }
        group += group_step;
        part += part_step;
        if (part >= n_parts) {
            part -= n_parts;
            ++group;
        }
        place.slot += kWarps;
        if (place.slot >= ring.n_slots) {
            place.slot -= ring.n_slots;
            place.parity ^= 1;
            place.first_turn = false;
        }
    }
    place.i -= n_slots;
}

#endif

}  // namespace etalon::backend::cuda::layers

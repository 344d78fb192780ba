// SPDX-License-Identifier: Apache-2.0
// The stream of weights of decode_layers.cu: a block's part of every matrix, the ring through which
// it comes, and its products with the codes of the tokens (spec LIN-2). E8Slots and E4Slots say
// what a slot of the ring holds.
#pragma once

#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/sm80/e4.cuh"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda::layers {

inline constexpr int kWarps = 8;  // that compute
inline constexpr int kThreads = kWarps * kWarpLanes;
inline constexpr int kHelperThreads = 128;  // a warp that copies, three that make norms
inline constexpr int kSquaresThreads = 3 * kWarpLanes;
inline constexpr int kComputeRegisters = 224;
inline constexpr int kHelperRegisters = 56;
inline constexpr int kComputeBarrier = 1;
// The warps that compute and the one that scales norms: codes are there, scales are there.
inline constexpr int kNormBarrier = 2;
inline constexpr int kScaleBarrier = 3;
inline constexpr int kNormThreads = kThreads + kWarpLanes;
inline constexpr int kSquaresBarrier = 4;

inline constexpr int kStep = kWarpLanes * static_cast<int>(sizeof(int4));  // of a warp along a row

inline constexpr int kMine = 16;                 // elements of a thread
inline constexpr int kRound = kMine * kThreads;  // elements of h that are rotated together
inline constexpr int kSharedMax = 227 * 1024;

// The blocks take whole units of rows, so that who makes them can do the first strides of the
// butterfly that comes next: units of 2^kDimUnitBits rows of h, of 2^kHiddenUnitBits pairs.
inline constexpr int kDimUnitBits = 4;
inline constexpr int kHiddenUnitBits = 4;
inline constexpr int kLaneBits = 5;  // of a lane's number

inline constexpr int kDim = kLayersHeadDim;
inline constexpr int kLaneDims = kDim / kWarpLanes;

/// Where element e of a round lies in shared memory: 4 words are left free behind 16, and 16 behind
/// 256, so that the lanes of a warp meet in few banks whichever four bits of e they do not own.
__host__ __device__ constexpr int place_of(int e) {
    return e + (e >> 4) * 4 + (e >> 8) * 16;
}
inline constexpr int kRoundBytes = place_of(kRound) * static_cast<int>(sizeof(float));

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
/// The thread's number, read anew: what follows from it is not kept in registers through all
/// layers, for which there are too few. What does not fit comes from memory that each meeting makes
/// slow again.
__device__ inline int own_thread() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

/// A word of shared memory, read anew for the same reason.
template <typename T>
__device__ T read_anew(const T& word) {
    return *static_cast<const volatile T*>(&word);
}
#endif

/// How large the arrays of a thread and of a block are. Usual ones are shorter between two
/// matrices, which is much of the time where layers are small; Wide also has several units of
/// attention for the query heads of a KV head.
struct Usual {
    static constexpr bool kWide = false;
    static constexpr int kRounds = 2;          // of h, and of the heads
    static constexpr int kHiddenMax = 16384;   // columns of down
    static constexpr int kRowsMax = kThreads;  // of a block in one matrix
};
struct Wide {
    static constexpr bool kWide = true;
    static constexpr int kRounds = 3;
    static constexpr int kHiddenMax = 32768;
    static constexpr int kRowsMax = 2 * kThreads;  // a thread still finishes one, or one pair
};

/// The part of a matrix that a block multiplies; the same in every layer. Aligned as Place.
struct alignas(16) Share {
    int n_cols;
    int first;         // row
    int n;             // rows, or pairs of rows
    int second;        // pairs: rows from one of a pair to the other; 0: no pairs
    int n_rows;        // of all
    int n_parts;       // of a row
    int part_columns;  // of each but the last
    int n_slots;

    template <typename Slots>
    __device__ void set(int n_units, int unit, int columns, int to_second) {
        const auto begin = [&](unsigned i) {
            return unit * static_cast<int>(static_cast<std::uint64_t>(n_units) * i / gridDim.x);
        };
        n_cols = columns;
        first = begin(blockIdx.x);
        n = begin(blockIdx.x + 1) - first;
        second = to_second;
        n_rows = second == 0 ? n : 2 * n;
        n_parts = (n_cols + Slots::kPartMax - 1) / Slots::kPartMax;
        part_columns = (n_cols / n_parts + kStep - 1) / kStep * kStep;
        n_slots = (n_rows + Slots::kRows - 1) / Slots::kRows * n_parts;
    }
    __device__ int row(int i) const { return i < n ? first + i : first + i - n + second; }
};

/// The slots of a warp: every kWarps-th of all. Aligned, so that a warp reads its own at once and
/// nothing beside it.
struct alignas(16) Place {
    int i;       // slot of the matrix
    int slot;    // of the ring
    int parity;  // of its turn
    bool first_turn;
};

/// A slot with so many columns of 4 rows of int8.
struct E8Slots {
    static constexpr int kRows = 4;
    static constexpr int kPartMax = 4096;  // columns
    static constexpr int kBytes = kRows * kPartMax;
    static constexpr int kMax = 14;  // slots of a ring
    /// Slots that are copied at the same time: while a block multiplies; between matrices, when
    /// what the blocks write and read would wait behind more; and around attention, which takes
    /// longer than the ring takes to fill.
    static constexpr int kUnderWay = 3;
    static constexpr int kUnderWayBetween = 2;
    static constexpr int kUnderWayAttention = 2;
    static constexpr int kQkvUnit = 4;  // rows
    struct Table {};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __device__ static void load(const LayersView&, Table&) {}

    __device__ static int bytes(int n_rows, int columns) {
        return n_rows * columns;
    }

    /// A lane copies a row.
    __device__ static void copy(std::int8_t* slot, const std::byte* weights, const Share& share,
                                int row, int column, int columns, int lane, Barrier& full) {
        if (lane >= min(kRows, share.n_rows - row)) return;
        const auto at = static_cast<std::size_t>(share.row(row + lane));
        copy_bytes_once(slot + lane * columns,
                        weights + at * static_cast<std::size_t>(share.n_cols) + column, columns,
                        full);
    }

    /// The products of a slot's rows with each token; the sums go to `to`.
    template <int kTokens, int kRowsMax, typename Release>
    __device__ static void multiply(const std::int8_t* slot, Table&, const std::int8_t* x,
                                    int x_stride, int columns, int n_rows, int lane,
                                    int (*to)[kRowsMax], const Release& release) {
        int sums[kRows][kTokens] = {};
        const auto* w = reinterpret_cast<const int4*>(slot);
        const int row = columns / static_cast<int>(sizeof(int4));
#pragma unroll 4
        for (int i = lane; i < row; i += kWarpLanes) {
            int4 words[kRows];
#pragma unroll
            for (int r = 0; r < kRows; ++r)
                words[r] = w[r * row + i];
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                const int4 v = reinterpret_cast<const int4*>(x + t * x_stride)[i];
#pragma unroll
                for (int r = 0; r < kRows; ++r) {
                    int sum = sums[r][t];
                    sum = __dp4a(words[r].x, v.x, sum);
                    sum = __dp4a(words[r].y, v.y, sum);
                    sum = __dp4a(words[r].z, v.z, sum);
                    sums[r][t] = __dp4a(words[r].w, v.w, sum);
                }
            }
        }
        release();
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                const int sum = __reduce_add_sync(kFullWarp, sums[r][t]);
                if (lane == r * kTokens + t && r < n_rows) atomicAdd(&to[t][r], sum);
            }
        }
    }
#endif
};

/// A slot with up to eight groups of a tile of 16 rows of E4, which stand together in memory.
struct E4Slots {
    static constexpr int kRows = kE4TileRows;
    static constexpr int kPartMax = 8 * kE4Columns;
    static constexpr int kBytes = 8 * kE4GroupBytes;
    static constexpr int kMax = 12;
    static constexpr int kUnderWay = 4;
    static constexpr int kUnderWayBetween = 1;
    static constexpr int kUnderWayAttention = 1;
    static constexpr int kQkvUnit = kRows;
    using Table = E4Room;
    static_assert(kStep % kE4Columns == 0, "a part of a row is whole groups");
    static_assert((1 << kDimUnitBits) == kRows && (1 << kHiddenUnitBits) == kRows,
                  "the rows of a block are whole tiles");

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __device__ static void load(const LayersView& view, Table& table) {
        load_e4_rows<E4Form::sum>(view.table, table.rows());
    }

    __device__ static int bytes(int, int columns) {
        return columns / kE4Columns * kE4GroupBytes;
    }

    __device__ static void copy(std::int8_t* slot, const std::byte* weights, const Share& share,
                                int row, int column, int columns, int lane, Barrier& full) {
        if (lane != 0) return;
        const int group =
            share.row(row) / kRows * (share.n_cols / kE4Columns) + column / kE4Columns;
        copy_bytes_once(slot, weights + static_cast<std::size_t>(group) * kE4GroupBytes,
                        bytes(kRows, columns), full);
    }

    template <int kTokens, int kRowsMax, typename Release>
    __device__ static void multiply(const std::int8_t* slot, Table& table, const std::int8_t* x,
                                    int x_stride, int columns, int, int lane, int (*to)[kRowsMax],
                                    const Release& release) {
        const int token = lane / 4;  // of a column of the product
        const auto* from =
            reinterpret_cast<const int4*>(x + token * x_stride + lane % 4 * kE4LaneColumns);
        const E4Lookup lookup(table.rows());
        E4Sums sums{};
#pragma unroll 2
        for (int i = 0; i < columns / kE4Columns; ++i) {
            E4Words words;
            words.load_shared(slot + i * kE4GroupBytes, lane);
            int4 v[kE4Chunks];
#pragma unroll
            for (int chunk = 0; chunk < kE4Chunks; ++chunk)
                v[chunk] = token < kTokens ? from[(i * kE4Chunks + chunk) * 4] : int4{};
#pragma unroll
            for (int chunk = 0; chunk < kE4Chunks; ++chunk)
                sums.add(words, lookup, chunk, v[chunk]);
        }
        release();
        int total[4];
        sums.total(total);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int t = lane % 4 * 2 + i % 2;
            if (t < kTokens) atomicAdd(&to[t][lane / 4 + i / 2 * 8], total[i]);
        }
    }
#endif
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The ring of slots: the same places for who fills and who reads.
struct Ring {
    std::int8_t* slots;
    Barrier* full;
    Barrier* empty;
    int n_slots;
};

/// Copies the block's rows of every matrix in their order, as far ahead as the ring has room: a
/// warp. Others change under_way_max meanwhile.
template <typename Slots>
__device__ void stream_weights(const LayersView& view, const Share (&shares)[kLayerMatrices],
                               const Ring& ring, int& under_way_max) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int n_ring = ring.n_slots;
    RingPlace to;
    RingPlace landed;
    int under_way = 0;  // slots from `landed` to `to`
    for (int i = 0; i < view.n_layers; ++i) {
#pragma unroll 1
        for (int m = 0; m < kLayerMatrices; ++m) {
            const std::byte* weights = view.layers[i].matrices[m].weights;
            const Share& share = shares[m];
            const int n_rows = share.n_rows;
            const int n_cols = share.n_cols;
            const int part_columns = share.part_columns;
#pragma unroll 1
            for (int row = 0; row < n_rows; row += Slots::kRows) {
                const int n = min(Slots::kRows, n_rows - row);
#pragma unroll 1
                for (int column = 0; column < n_cols; column += part_columns) {
                    const int columns = min(part_columns, n_cols - column);
                    Barrier& full = ring.full[to.stage];
                    barrier_wait(ring.empty[to.stage], to.parity ^ 1);  // the first turn waits not
                    const int limit = __shfl_sync(kFullWarp, load_loose(under_way_max), 0);
                    while (under_way >= limit) {
                        barrier_wait(ring.full[landed.stage], landed.parity);
                        landed.next(n_ring);
                        --under_way;
                    }
                    if (lane == 0) barrier_arrive_expect(full, Slots::bytes(n, columns));
                    __syncwarp();
                    Slots::copy(ring.slots + to.stage * Slots::kBytes, weights, share, row, column,
                                columns, lane, full);
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

/// Adds to `to` the products of the block's rows with the codes x; `kept`, the warp's place, goes
/// on to the next matrix.
template <typename Slots, int kTokens, int kRowsMax>
__device__ void multiply_share(const Share& share, const Ring& ring, Place& kept,
                               typename Slots::Table& table, const std::int8_t* x,
                               int (&to)[kTokens][kRowsMax]) {
    const int lane = own_thread() % kWarpLanes;
    const int n_cols = share.n_cols;
    const int n_parts = share.n_parts;
    const int part_columns = share.part_columns;
    const int n_rows = share.n_rows;
    const int n_slots = share.n_slots;
    Place place = kept;
    int group = place.i / n_parts;
    int part = place.i % n_parts;
    const int group_step = kWarps / n_parts;
    const int part_step = kWarps % n_parts;
    for (; place.i < n_slots; place.i += kWarps) {
        const int begin = part * part_columns;
        const int columns = min(part_columns, n_cols - begin);
        const int row = group * Slots::kRows;
        int(*rows)[kRowsMax] = reinterpret_cast<int(*)[kRowsMax]>(&to[0][row]);
        // Another warp had the slot before. While that has not read it, the parity of `full` says
        // nothing about this turn.
        if (!place.first_turn) barrier_wait(ring.empty[place.slot], place.parity ^ 1);
        barrier_wait(ring.full[place.slot], place.parity);
        Slots::template multiply<kTokens>(
            ring.slots + place.slot * Slots::kBytes, table, x + begin, n_cols, columns,
            n_rows - row, lane, rows, [&] { barrier_arrive_warp(ring.empty[place.slot], lane); });
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
    __syncwarp();
    if (lane == 0) kept = place;
}

#endif

}  // namespace etalon::backend::cuda::layers

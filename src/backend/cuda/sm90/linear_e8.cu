// SPDX-License-Identifier: Apache-2.0
// E8 linear layers of many tokens on the tensor cores of sm_90a, fed by the copy engine (spec
// LIN-2, LIN-3).
#include <algorithm>
#include <cuda_runtime.h>
#include <span>
#include <vector>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/tensor_map.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/ptx/wgmma.cuh"
#include "backend/cuda/sm80/linear_out.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kTileTokens = 128;
constexpr int kTileRows = 256;
constexpr int kStep = kTensorTileBytes;  // bytes of K in a stage
constexpr int kStages = 4;
constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kGroups = 2;          // that multiply; one more copies
constexpr int kThreads = (kGroups + 1) * kGroupThreads;
constexpr int kGroupTokens = kTileTokens / kGroups;
[[maybe_unused]] constexpr int kGroupWarps = kGroupThreads / 32;
[[maybe_unused]] constexpr int kProductK = 32;  // of one instruction
constexpr int kClusterTokens = 2;
constexpr int kCopyRegisters = 40;
constexpr int kMultiplyRegisters = 232;
static_assert(kGroupTokens == 64 && kTileRows == 256, "the instruction has this shape");
static_assert(kCopyRegisters + kGroups * kMultiplyRegisters <= 65536 / kGroupThreads);

/// Rows of 128 bytes, swizzled by the copy engine.
struct Stage {
    std::int8_t x[kTileTokens * kStep];
    std::int8_t w[kTileRows * kStep];
};

struct Shared {
    Stage stages[kStages];
    float d[kGroups][kTileRows];  // scales of the tile's rows
    Barrier full[kStages];
    Barrier empty[kStages];
};
constexpr std::size_t kSharedBytes = sizeof(Shared);
static_assert(sizeof(Stage) % 1024 == 0, "the swizzle repeats after 1024 bytes");
static_assert(kSharedBytes <= 227 * 1024, "shared memory of a block");

struct Tile {
    int token;
    int row;
};

/// What all threads know. Tiles of the same rows follow each other, so that rows of w come from
/// memory once and are then in the second cache. The blocks of a cluster take tiles of the same
/// rows and successive tokens.
struct Work {
    int n_tokens;
    int n_rows;
    int n_steps;    // of K
    int n_columns;  // clusters of tiles by tokens
    int n_tiles;    // of clusters

    template <int kCluster>
    __device__ Tile tile(int i, int rank) const {
        return {(i % n_columns * kCluster + rank) * kTileTokens, i / n_columns * kTileRows};
    }
};

/// Matrices of one shape, whose tokens follow each other in x (kGrouped).
struct Groups {
    const CUtensorMap* maps = nullptr;
    const E8Matrix* matrices = nullptr;
    const std::int32_t* begin = nullptr;  ///< [n + 1]
    int n = 0;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Which tiles are of which group, for one that goes through them in order: those of a group follow
/// each other.
struct Cursor {
    int group = -1;
    int first_tile = 0;
    int first_token = 0;
    Work work;  // of the group

    __device__ explicit Cursor(const Work& all) : work(all) { work.n_tiles = 0; }

    /// False: there is no tile i.
    __device__ bool go_to(int i, const Groups& groups) {
        while (i >= first_tile + work.n_tiles) {
            first_tile += work.n_tiles;
            if (++group == groups.n) return false;
            first_token = groups.begin[group];
            work.n_tokens = groups.begin[group + 1] - first_token;
            work.n_columns = (work.n_tokens + kTileTokens - 1) / kTileTokens;
            work.n_tiles = work.n_columns * ((work.n_rows + kTileRows - 1) / kTileRows);
        }
        return true;
    }
};

/// The thread that copies: x and w of each step into a stage that all blocks of the cluster have
/// read. A block of two copies half of the rows to both.
template <int kCluster, bool kGate>
__device__ void copy_tile_steps(Shared& shared, const CUtensorMap& x, const CUtensorMap& w,
                                const Tile& tile, int first_token, int n_steps, int rank,
                                RingPlace& place) {
    constexpr std::uint16_t kBoth = 3;
    constexpr int kPart = kTileRows / kCluster;
    for (int step = 0; step < n_steps; ++step, place.next(kStages)) {
        Stage& stage = shared.stages[place.stage];
        Barrier& full = shared.full[place.stage];
        barrier_wait(shared.empty[place.stage], place.parity ^ 1);
        barrier_arrive_expect(full, sizeof(Stage));
        copy_tile(stage.x, x, step * kStep, first_token + tile.token, full);
        std::int8_t* to = stage.w + rank * kPart * kStep;
        const int row = tile.row + rank * kPart;
        if constexpr (kCluster == 1 && kGate) {
            copy_gate_up_once(to, w, step * kStep, row, full);
        } else if constexpr (kCluster == 1) {
            copy_tile(to, w, step * kStep, row, full);
        } else if constexpr (kGate) {
            copy_gate_up_to_blocks(to, w, step * kStep, row, full, kBoth);
        } else {
            copy_tile_to_blocks(to, w, step * kStep, row, full, kBoth);
        }
    }
}

template <int kCluster, bool kGate, bool kGrouped>
__device__ void copy_tiles(Shared& shared, const CUtensorMap& x, const CUtensorMap& w,
                           const Work& work, const Groups& groups, int rank) {
    RingPlace place;
    const int first = static_cast<int>(blockIdx.x) / kCluster;
    const int turn = static_cast<int>(gridDim.x) / kCluster;
    if constexpr (kGrouped) {
        Cursor cursor(work);
        for (int i = first; cursor.go_to(i, groups); i += turn) {
            const Tile tile = cursor.work.tile<kCluster>(i - cursor.first_tile, rank);
            copy_tile_steps<kCluster, kGate>(shared, x, groups.maps[cursor.group], tile,
                                             cursor.first_token, work.n_steps, rank, place);
        }
    } else {
        for (int i = first; i < work.n_tiles; i += turn) {
            copy_tile_steps<kCluster, kGate>(shared, x, w, work.tile<kCluster>(i, rank), 0,
                                             work.n_steps, rank, place);
        }
    }
}

/// A warp has read a stage.
template <int kCluster>
__device__ void release(Barrier& empty) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane < kCluster) barrier_arrive_at(empty, static_cast<std::uint32_t>(lane));
}

/// The sums of 64 tokens and 256 rows of a tile.
template <int kCluster>
__device__ void multiply(Shared& shared, int group, int n_steps, RingPlace& place,
                         int (&sums)[128]) {
    int read = 0;
    for (int step = 0; step < n_steps; ++step) {
        const Stage& stage = shared.stages[place.stage];
        barrier_wait(shared.full[place.stage], place.parity);
        const std::int8_t* x = stage.x + group * kGroupTokens * kStep;
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kStep; k += kProductK)
            wgmma_i8(sums, wgmma_rows(x + k), wgmma_rows(stage.w + k), step > 0 || k > 0 ? 1 : 0);
        wgmma_commit();
        wgmma_wait<1>();
        if (step > 0) release<kCluster>(shared.empty[read]);  // the step before this one
        read = place.stage;
        place.next(kStages);
    }
    wgmma_wait<0>();
    release<kCluster>(shared.empty[read]);
}

/// Two neighbours in a row of y: together where kWhole says that they are aligned and inside, else
/// one by one.
template <bool kWhole>
__device__ float2 load_pair(const float* y, bool second) {
    if constexpr (kWhole) return *reinterpret_cast<const float2*>(y);
    return {y[0], second ? y[1] : 0.0F};
}
template <bool kWhole>
__device__ void store_pair(float* y, bool second, float2 v) {
    if constexpr (kWhole) {
        *reinterpret_cast<float2*>(y) = v;
    } else {
        y[0] = v.x;
        if (second) y[1] = v.y;
    }
}

/// LIN-3, bias (LIN-1), residual (RES-1) and the store; loads of y many at a time. kWhole: all 256
/// rows are there, and pairs of y are aligned.
template <bool kWhole, bool kAdd>
__device__ void finish(const LinearOut& out, const float* row_scales, const float* d,
                       const Tile& tile, int n_rows, const int (&sums)[128]) {
    constexpr int kAtOnce = kAdd ? 16 : 8;
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    const int lane = thread % 32;
    const int first_row = tile.row + lane % 4 * 2;
#pragma unroll
    for (int high = 0; high < 2; ++high) {
        const int token = tile.token + thread / 32 * 16 + high * 8 + lane / 4;
        if (token >= out.n_tokens) continue;
        const float a = row_scales[token];
        float* y = out.y + static_cast<std::size_t>(token) * out.y_stride;
#pragma unroll
        for (int first = 0; first < kTileRows / 8; first += kAtOnce) {
            float2 before[kAtOnce];
            if constexpr (kAdd) {
#pragma unroll
                for (int j = 0; j < kAtOnce; ++j) {
                    const int row = first_row + (first + j) * 8;
                    if (kWhole || row < n_rows)
                        before[j] = load_pair<kWhole>(y + row, row + 1 < n_rows);
                }
            }
#pragma unroll
            for (int j = 0; j < kAtOnce; ++j) {
                const int row = first_row + (first + j) * 8;
                if (!kWhole && row >= n_rows) continue;
                const bool second = kWhole || row + 1 < n_rows;
                const int at = 4 * (first + j) + 2 * high;
                const float2 scale = *reinterpret_cast<const float2*>(d + row - tile.row);
                float2 v = {mul(static_cast<float>(sums[at]), mul(a, scale.x)),  // LIN-3
                            mul(static_cast<float>(sums[at + 1]), mul(a, scale.y))};
                if (out.bias != nullptr) {
                    v.x = add(v.x, out.bias[row]);
                    if (second) v.y = add(v.y, out.bias[row + 1]);
                }
                if constexpr (kAdd) v = {add(before[j].x, v.x), add(before[j].y, v.y)};  // RES-1
                store_pair<kWhole>(y + row, second, v);
            }
        }
    }
}

/// The choice of finish().
__device__ void finish_tile(const LinearOut& out, const float* row_scales, const float* d,
                            const Tile& tile, int n_rows, const int (&sums)[128]) {
    const bool whole = tile.row + kTileRows <= n_rows && out.y_stride % 2 == 0 &&
                       reinterpret_cast<std::uintptr_t>(out.y) % sizeof(float2) == 0;
    if (whole) {
        out.add ? finish<true, true>(out, row_scales, d, tile, n_rows, sums)
                : finish<true, false>(out, row_scales, d, tile, n_rows, sums);
    } else {
        out.add ? finish<false, true>(out, row_scales, d, tile, n_rows, sums)
                : finish<false, false>(out, row_scales, d, tile, n_rows, sums);
    }
}

/// The same where the rows of the tile are gate and up in turns of eight: y has a row for both
/// (SWI-1). `d` is in the order of the tile; n_rows are those of y.
template <bool kWhole>
__device__ void finish_gate(const LinearOut& out, const float* row_scales, const float* d,
                            const Tile& tile, int n_rows, const int (&sums)[128]) {
    constexpr int kUp = 8;  // columns from gate to up
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    const int lane = thread % 32;
    const int first_row = tile.row / 2 + lane % 4 * 2;
#pragma unroll
    for (int high = 0; high < 2; ++high) {
        const int token = tile.token + thread / 32 * 16 + high * 8 + lane / 4;
        if (token >= out.n_tokens) continue;
        const float a = row_scales[token];
        float* y = out.y + static_cast<std::size_t>(token) * out.y_stride;
#pragma unroll
        for (int j = 0; j < kTileRows / (2 * kUp); ++j) {
            const int row = first_row + j * kUp;
            if (!kWhole && row >= n_rows) continue;
            const bool second = kWhole || row + 1 < n_rows;
            const int at = 8 * j + 2 * high;
            const float2 gate = *reinterpret_cast<const float2*>(d + 2 * kUp * j + lane % 4 * 2);
            const float2 up =
                *reinterpret_cast<const float2*>(d + 2 * kUp * j + kUp + lane % 4 * 2);
            float2 g = {mul(static_cast<float>(sums[at]), mul(a, gate.x)),  // LIN-3
                        mul(static_cast<float>(sums[at + 1]), mul(a, gate.y))};
            float2 u = {mul(static_cast<float>(sums[at + 4]), mul(a, up.x)),
                        mul(static_cast<float>(sums[at + 5]), mul(a, up.y))};
            if (out.bias != nullptr) {
                g.x = add(g.x, out.bias[row]);
                u.x = add(u.x, out.bias[n_rows + row]);
                if (second) g.y = add(g.y, out.bias[row + 1]);
                if (second) u.y = add(u.y, out.bias[n_rows + row + 1]);
            }
            store_pair<kWhole>(y + row, second, {swiglu(g.x, u.x), swiglu(g.y, u.y)});
        }
    }
}

/// Row i of the tile in w.d.
template <bool kGate>
__device__ int row_of(const Tile& tile, int i, int n_rows) {
    if constexpr (!kGate) return tile.row + i;
    const int row = tile.row / 2 + i / 16 * 8 + i % 8;
    if (row >= n_rows / 2) return n_rows;
    return i % 16 < 8 ? row : n_rows / 2 + row;
}

template <int kCluster, bool kGate>
__device__ void multiply_tile(Shared& shared, const E8View& w, const float* row_scales,
                              const LinearOut& out, const Work& work, Tile tile, RingPlace& place) {
    const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
    const int thread = static_cast<int>(threadIdx.x) % kGroupThreads;
    float* d = shared.d[group];
    for (int r = thread; r < kTileRows; r += kGroupThreads) {
        const int row = row_of<kGate>(tile, r, work.n_rows);
        d[r] = row < work.n_rows ? w.d[row] : 0.0F;
    }
    int sums[128];
    multiply<kCluster>(shared, group, work.n_steps, place, sums);
    named_sync(1 + group, kGroupThreads);  // d is there
    tile.token += group * kGroupTokens;
    if constexpr (kGate) {
        const bool whole = tile.row + kTileRows <= work.n_rows && out.y_stride % 2 == 0 &&
                           reinterpret_cast<std::uintptr_t>(out.y) % sizeof(float2) == 0;
        whole ? finish_gate<true>(out, row_scales, d, tile, work.n_rows / 2, sums)
              : finish_gate<false>(out, row_scales, d, tile, work.n_rows / 2, sums);
    } else {
        finish_tile(out, row_scales, d, tile, work.n_rows, sums);
    }
    named_sync(1 + group, kGroupThreads);  // d is read
}

template <int kCluster, bool kGate, bool kGrouped>
__device__ void multiply_tiles(Shared& shared, const E8View& w, const float* row_scales,
                               const LinearOut& out, const Work& work, const Groups& groups,
                               int rank) {
    RingPlace place;
    const int first = static_cast<int>(blockIdx.x) / kCluster;
    const int turn = static_cast<int>(gridDim.x) / kCluster;
    if constexpr (kGrouped) {
        Cursor cursor(work);
        for (int i = first; cursor.go_to(i, groups); i += turn) {
            const E8Matrix& matrix = groups.matrices[cursor.group];
            LinearOut of_group = out;
            enter_group(of_group, groups.begin + cursor.group);
            multiply_tile<kCluster, kGate>(shared, {matrix.q, matrix.d, w.n_rows, w.stride},
                                           row_scales + cursor.first_token, of_group, cursor.work,
                                           cursor.work.tile<kCluster>(i - cursor.first_tile, rank),
                                           place);
        }
    } else {
        for (int i = first; i < work.n_tiles; i += turn) {
            multiply_tile<kCluster, kGate>(shared, w, row_scales, out, work,
                                           work.tile<kCluster>(i, rank), place);
        }
    }
}

#endif

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3); kGate: y[t][row] is SwiGLU of this
/// for row and for R / 2 + row (SWI-1).
///   in:  w int8 [R, stride] and x int8 [T, stride] by tensor maps, |q| <= 127, x zero from K on;
///        w.d binary32 [R]; row_scales binary32 [T]
///   out: out.y
///   tile: 128 tokens x 256 rows; a warpgroup copies, two multiply 64 tokens each; stages of 128
///         bytes of K, 4 of them; shared: 195 KB; a block a multiprocessor, which goes on to the
///         next tile; two blocks of a cluster share w
///   floor: 2 T R K operations, of the int8 peak
///   supported: any R and T, stride a multiple of 16, out.token_of null; kGate: R a multiple of 16,
///              out.add false; kGrouped: the matrices of `groups`, each with its own tokens
template <int kCluster, bool kGate, bool kGrouped>
__global__ void __launch_bounds__(kThreads, 1)
    linear_e8_sm90(const __grid_constant__ CUtensorMap x_map,
                   const __grid_constant__ CUtensorMap w_map, E8View w, const float* row_scales,
                   LinearOut out, Work work, Groups groups) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) std::uint8_t bytes[];
    Shared& shared = *reinterpret_cast<Shared*>(bytes);
    const int rank = kCluster == 1 ? 0 : static_cast<int>(cluster_rank());
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], kCluster * kGroups * kGroupWarps);
        }
        barrier_init_fence();
    }
    if constexpr (kCluster == 1) {
        __syncthreads();
    } else {
        cluster_sync();
    }
    let_next_kernel_start();
    wait_for_kernels_before();
    if (threadIdx.x / kGroupThreads == kGroups) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopyRegisters));
        if (threadIdx.x == kGroups * kGroupThreads)
            copy_tiles<kCluster, kGate, kGrouped>(shared, x_map, w_map, work, groups, rank);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters));
        multiply_tiles<kCluster, kGate, kGrouped>(shared, w, row_scales, out, work, groups, rank);
    }
    // A block that ended could not take the arrivals of the other one.
    if constexpr (kCluster > 1) {
        __syncwarp();
        cluster_sync();
    }
#endif
}

int tiles_of(int n, int size) {
    return (n + size - 1) / size;
}

template <int kCluster, bool kGate, bool kGrouped>
void launch_blocks(int n_clusters, const CUtensorMap& x_map, const CUtensorMap& w_map,
                   const E8View& w, const ActivationsView& x, const LinearOut& out,
                   const Work& work, const Groups& groups, Stream stream) {
    const auto kernel = linear_e8_sm90<kCluster, kGate, kGrouped>;
    let_have_shared("linear_e8", kernel, kSharedBytes);
    launch_cluster("linear_e8", kernel, dim3(static_cast<unsigned>(n_clusters * kCluster)),
                   kThreads, kCluster, kSharedBytes, stream, x_map, w_map, w, x.row_scales, out,
                   work, groups);
}

CUtensorMap map_of(const std::int8_t* w, int n_rows, int stride, int tile_rows, bool gate) {
    return gate ? tensor_map_gate_up(w, n_rows, stride, tile_rows)
                : tensor_map(w, n_rows, stride, tile_rows);
}

template <int kCluster, bool kGate>
void launch(const E8View& w, const ActivationsView& x, const LinearOut& out, int n_multiprocessors,
            Stream stream) {
    Work work{out.n_tokens, w.n_rows, tiles_of(w.stride, kStep),
              tiles_of(out.n_tokens, kTileTokens * kCluster), 0};
    work.n_tiles = work.n_columns * tiles_of(w.n_rows, kTileRows);
    const int n_clusters = std::min(work.n_tiles, n_multiprocessors / kCluster);
    const CUtensorMap x_map = tensor_map(x.row_q, out.n_tokens, x.stride, kTileTokens);
    const CUtensorMap w_map = map_of(w.q, w.n_rows, w.stride, kTileRows / kCluster, kGate);
    launch_blocks<kCluster, kGate, false>(n_clusters, x_map, w_map, w, x, out, work, {}, stream);
}

template <bool kGate>
void launch_groups(const E8Groups& experts, const std::byte* maps, const ActivationsView& x,
                   const LinearOut& out, int n_multiprocessors, Stream stream) {
    const Work work{0, experts.n_rows, tiles_of(experts.stride, kStep), 0, 0};
    const Groups groups{reinterpret_cast<const CUtensorMap*>(maps), experts.matrices, experts.begin,
                        experts.n_slots};
    const CUtensorMap x_map = tensor_map(x.row_q, out.n_tokens, x.stride, kTileTokens);
    const E8View w{nullptr, nullptr, experts.n_rows, experts.stride};
    launch_blocks<1, kGate, true>(n_multiprocessors, x_map, x_map, w, x, out, work, groups, stream);
}

}  // namespace

void launch_linear_e8_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                           int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && w.n_rows >= 1 && out.token_of == nullptr);
    ETALON_ASSERT(w.stride == x.stride && n_multiprocessors >= kClusterTokens);
    if (out.n_tokens <= kTileTokens) return launch<1, false>(w, x, out, n_multiprocessors, stream);
    launch<kClusterTokens, false>(w, x, out, n_multiprocessors, stream);
}

std::vector<std::byte> experts_maps_e8_sm90(std::span<const E8Matrix> matrices, int n_rows,
                                            int stride, bool gate_up) {
    std::vector<std::byte> maps;
    for (const E8Matrix& matrix : matrices) {
        const CUtensorMap map = map_of(matrix.q, n_rows, stride, kTileRows, gate_up);
        const auto bytes = std::as_bytes(std::span(&map, 1));
        maps.insert(maps.end(), bytes.begin(), bytes.end());
    }
    return maps;
}

void launch_experts_e8_sm90(const E8Groups& experts, const std::byte* maps, bool gate_up,
                            const ActivationsView& x, const LinearOut& out, int n_multiprocessors,
                            Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && experts.n_rows >= 1 && experts.stride == x.stride);
    ETALON_ASSERT(out.token_of == nullptr && out.bias == nullptr && !out.add);
    ETALON_ASSERT(reinterpret_cast<std::uintptr_t>(maps) % alignof(CUtensorMap) == 0);
    const auto run = gate_up ? launch_groups<true> : launch_groups<false>;
    run(experts, maps, x, out, n_multiprocessors, stream);
}

bool launch_gate_up_e8_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                            int n_multiprocessors, Stream stream) {
    constexpr int kTurn = 16;  // rows: eight of gate and the same of up
    if (w.n_rows % kTurn != 0 || out.add || out.token_of != nullptr) return false;
    ETALON_ASSERT(out.n_tokens >= 1 && w.n_rows >= kTurn && w.stride == x.stride);
    if (pairs_are_faster(out.n_tokens, w.n_rows, w.stride)) {
        launch_gate_up_e8_pairs_sm90(w, x, out, n_multiprocessors, stream);
    } else if (out.n_tokens <= kFewTokensMax) {
        launch_gate_up_e8_few_sm90(w, x, out, n_multiprocessors, stream);
    } else {
        launch<kClusterTokens, true>(w, x, out, n_multiprocessors, stream);
    }
    return true;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// E8 linear layers of up to 256 tokens, all tokens in one tile, where the tensor cores count as
// much as the weights' way from memory (spec LIN-2, LIN-3, SWI-1).
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cuda_runtime.h>

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

constexpr int kTileRows = 128;  // of a block
constexpr int kTileTokens = 256;
constexpr int kStep = kTensorTileBytes;  // bytes of K in a stage
constexpr int kStages = 4;
constexpr int kPair = 2;            // blocks of a cluster: rows that follow each other, same K
constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kGroups = 2;          // that multiply, 64 rows each; one more copies
constexpr int kMultiplyThreads = kGroups * kGroupThreads;
constexpr int kThreads = kMultiplyThreads + kGroupThreads;
constexpr int kCopyRegisters = 40;
constexpr int kMultiplyRegisters = 232;
static_assert(kCopyRegisters + kGroups * kMultiplyRegisters <= 65536 / kGroupThreads);
[[maybe_unused]] constexpr int kGroupRows = kTileRows / kGroups;
[[maybe_unused]] constexpr int kProductK = 32;    // of one instruction
constexpr int kQuads = kTileTokens / 8;           // of a thread's sums: two rows of two tokens
constexpr int kPiecesMax = 4;                     // of a tile
[[maybe_unused]] constexpr int kQuadsAtOnce = 4;  // that a thread finishes, all loads first
constexpr int kPieceStepsMin = 4;
constexpr int kParkQuads = kQuads / kPiecesMax;  // of a thread that lie in shared memory
[[maybe_unused]] constexpr int kBlockSums = kQuads * kMultiplyThreads;  // int4, in memory
static_assert(kParkQuads % kQuadsAtOnce == 0 && kQuads % kParkQuads == 0);
static_assert(split_sums_ints(1) == kMultiplyThreads * kQuads * 4);

/// Rows of 128 bytes, swizzled by the copy engine. What is behind the tokens is never looked at.
struct Stage {
    std::int8_t x[kTileTokens * kStep];
    std::int8_t w[kTileRows * kStep];
};
static_assert(sizeof(Stage) % 1024 == 0, "the swizzle repeats after 1024 bytes");

struct Shared {
    Stage stages[kStages];
    int4 park[kParkQuads][kMultiplyThreads];  // sums on their way through the code that finishes
    float a[kTileTokens];                     // scales of the tokens
    Barrier full[kStages];
    Barrier empty[kStages];
};
static_assert(sizeof(Shared) <= 227 * 1024, "shared memory of a block");

/// What all threads know. A tile is 256 rows and all tokens; a pair of blocks takes it:
///   n_pieces 1: whole tiles, in turns
///   n_pieces 2, 4: a pair has a piece of one tile, leaves its sums in memory, and finishes a part
///     of the tokens with those that the others left
struct Work {
    int n_rows;
    int n_steps;  // of K
    int n_tiles;
    int n_pairs;
    int n_pieces;
    int half_tokens;  // that a block copies; a multiple of 8
};

/// Sums between the blocks of a launch; `counts` are 0 before and after.
struct Exchange {
    int4* sums;             // [blocks, kQuads, kMultiplyThreads]
    std::uint32_t* counts;  // [blocks]
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The pieces of a pair in their order: steps [first, first + n) of a tile; n is 0 behind the last.
/// No division: ahead of the first copy it would take longer than the copy's own start.
struct Pieces {
    int tile;
    int first;
    int n;

    __device__ Pieces(const Work& work, int pair) {
        const int log = 31 - __clz(work.n_pieces);
        const int i = pair & (work.n_pieces - 1);
        tile = pair >> log;
        first = i * work.n_steps >> log;
        n = ((i + 1) * work.n_steps >> log) - first;
    }
    /// Pairs with a piece of a tile have only this one: n_pairs is above n_tiles then.
    __device__ void next(const Work& work) {
        tile += work.n_pairs;
        first = 0;
        n = tile < work.n_tiles ? work.n_steps : 0;
    }
    /// Goes on by one step.
    __device__ void step(const Work& work) {
        ++first;
        if (--n == 0) next(work);
    }
};

/// The thread that copies: the block's rows of w to itself, half of the tokens to both blocks.
/// Weights that are not fresh do not depend on the kernels before.
template <bool kGate>
__device__ void copy_pieces(Shared& shared, const CUtensorMap& x, const CUtensorMap& w,
                            const Work& work, int pair, int rank, bool fresh) {
    constexpr std::uint16_t kBoth = 3;
    const auto copy_w = [&](int stage, const Pieces& piece) {
        barrier_arrive_expect(shared.full[stage],
                              kTileRows * kStep + kPair * work.half_tokens * kStep);
        const int row = (piece.tile * kPair + rank) * kTileRows;
        std::int8_t* to = shared.stages[stage].w;
        if constexpr (kGate) {
            copy_gate_up_once(to, w, piece.first * kStep, row, shared.full[stage]);
        } else {
            copy_tile_once(to, w, piece.first * kStep, row, shared.full[stage]);
        }
    };
    const auto copy_x = [&](int stage, const Pieces& piece) {
        copy_tile_to_blocks(shared.stages[stage].x + rank * work.half_tokens * kStep, x,
                            piece.first * kStep, rank * work.half_tokens, shared.full[stage],
                            kBoth);
    };
    Pieces piece(work, pair);
    Pieces x_piece = piece;
    int n_first = 0;
    if (fresh) wait_for_kernels_before();
    for (; n_first < kStages && piece.n > 0; ++n_first, piece.step(work))
        copy_w(n_first, piece);
    wait_for_kernels_before();
    for (int i = 0; i < n_first; ++i, x_piece.step(work))
        copy_x(i, x_piece);
    for (RingPlace place; piece.n > 0; place.next(kStages), piece.step(work)) {
        barrier_wait(shared.empty[place.stage], place.parity);
        copy_w(place.stage, piece);
        copy_x(place.stage, piece);
    }
}

/// A warp has read a stage: both blocks may copy to it.
__device__ void release(Barrier& empty) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    if (lane < kPair) barrier_arrive_at(empty, static_cast<std::uint32_t>(lane));
}

/// The sums of 64 rows and all tokens over a piece.
__device__ void multiply(Shared& shared, int group, int n_steps, RingPlace& place,
                         int (&sums)[128]) {
    int read = 0;
    for (int step = 0; step < n_steps; ++step) {
        const Stage& stage = shared.stages[place.stage];
        barrier_wait(shared.full[place.stage], place.parity);
        const std::int8_t* w = stage.w + group * kGroupRows * kStep;
        wgmma_fence();
#pragma unroll
        for (int k = 0; k < kStep; k += kProductK)
            wgmma_i8(sums, wgmma_rows(w + k), wgmma_rows(stage.x + k), step > 0 || k > 0 ? 1 : 0);
        wgmma_commit();
        wgmma_wait<1>();
        if (step > 0) release(shared.empty[read]);  // the step before this one
        read = place.stage;
        place.next(kStages);
    }
    wgmma_wait<0>();
    release(shared.empty[read]);
}

__device__ int4 quad_of(const int (&sums)[128], int j) {
    return make_int4(sums[4 * j], sums[4 * j + 1], sums[4 * j + 2], sums[4 * j + 3]);
}

/// Quads [first, first + kParkQuads) to the thread's places in shared memory: code that does not
/// know `first` cannot choose registers. `first` is a multiple of their number.
__device__ void park_quads(Shared& shared, const int (&sums)[128], int first) {
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        if (j / kParkQuads == first / kParkQuads)
            shared.park[j % kParkQuads][threadIdx.x] = quad_of(sums, j);
    }
}

/// Leaves the sums in memory, but for quads [kept, kept + n_kept).
__device__ void leave_sums(const int (&sums)[128], int4* to, int kept, int n_kept) {
    to += threadIdx.x;
#pragma unroll
    for (int j = 0; j < kQuads; ++j) {
        if (j >= kept && j < kept + n_kept) continue;
        __stcg(to + j * kMultiplyThreads, quad_of(sums, j));
    }
}

/// What `n` stands for was done by the thread, or by others ahead of a barrier with it.
__device__ void add_release(std::uint32_t* count, std::uint32_t n) {
    asm volatile("red.release.gpu.global.add.u32 [%0], %1;" ::"l"(count), "r"(n) : "memory");
}
__device__ std::uint32_t load_acquire(const std::uint32_t* count) {
    std::uint32_t seen = 0;
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(count) : "memory");
    return seen;
}

/// Rows of a thread. kGate: those of a tile are gate and up in turns of eight, so that the two of a
/// thread are one of gate and the same of up.
template <bool kGate>
struct Rows {
    int row[2];  // of w.d and bias; kGate: the first one is also that of y
    bool there[2];
    float d[2];
    float bias[2];

    __device__ Rows(const E8View& w, const LinearOut& out, int first_row) {
        const int thread = static_cast<int>(threadIdx.x);
        const int in_turn = thread % 32 / 4;
        row[0] = kGate ? first_row / 2 + thread / 32 * 8 + in_turn
                       : first_row + thread / 32 * 16 + in_turn;
        row[1] = row[0] + (kGate ? w.n_rows / 2 : 8);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            there[i] = kGate ? row[0] < w.n_rows / 2 : row[i] < w.n_rows;
            d[i] = there[i] ? w.d[row[i]] : 0.0F;
            bias[i] = there[i] && out.bias != nullptr ? out.bias[row[i]] : 0.0F;
        }
    }
};

/// LIN-3, bias (LIN-1), with `adds` the residual (RES-1), and the store of a thread's sums of two
/// rows of two tokens, `token` and the next; y is the place of the first one.
__device__ void finish_quad(const LinearOut& out, const Rows<false>& rows, const float* scales,
                            const int4& sums, bool adds, const float (&before)[4], float* y,
                            int token, int low_end, int high_end) {
    const auto stride = static_cast<std::uint32_t>(out.y_stride);
    const float2 scale = *reinterpret_cast<const float2*>(scales);
    const int sum[4] = {sums.x, sums.y, sums.z, sums.w};
    float v[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        v[i] = mul(static_cast<float>(sum[i]),
                   mul(i % 2 == 0 ? scale.x : scale.y, rows.d[i / 2]));  // LIN-3
        if (out.bias != nullptr) v[i] = add(v[i], rows.bias[i / 2]);
        if (adds) v[i] = add(before[i], v[i]);  // RES-1
    }
    if (token < low_end) y[0] = v[0];
    if (token + 1 < low_end) y[stride] = v[1];
    if (token < high_end) y[8] = v[2];
    if (token + 1 < high_end) y[stride + 8] = v[3];
}

/// A whole tile; loads many at a time.
template <bool kAdd>
__device__ void finish(const LinearOut& out, const Rows<false>& rows, const float* a,
                       const int (&sums)[128]) {
    const int first_token = static_cast<int>(threadIdx.x) % 4 * 2;
    const auto stride = static_cast<std::uint32_t>(out.y_stride);
    float* const low = out.y + static_cast<std::uint32_t>(first_token) * stride + rows.row[0];
    const int low_end = rows.there[0] ? out.n_tokens - first_token : 0;
    const int high_end = rows.there[1] ? out.n_tokens - first_token : 0;
#pragma unroll
    for (int begin = 0; begin < kQuads; begin += kQuadsAtOnce) {
        if (8 * begin >= out.n_tokens) break;
        float before[kQuadsAtOnce][4];
#pragma unroll
        for (int j = 0; kAdd && j < kQuadsAtOnce; ++j) {
            const int token = 8 * (begin + j);
            const float* y = low + static_cast<std::uint32_t>(token) * stride;
            if (token < low_end) before[j][0] = y[0];
            if (token + 1 < low_end) before[j][1] = y[stride];
            if (token < high_end) before[j][2] = y[8];
            if (token + 1 < high_end) before[j][3] = y[stride + 8];
        }
#pragma unroll
        for (int j = 0; j < kQuadsAtOnce; ++j) {
            const int token = 8 * (begin + j);
            finish_quad(out, rows, a + token + first_token, quad_of(sums, begin + j), kAdd,
                        before[j], low + static_cast<std::uint32_t>(token) * stride, token, low_end,
                        high_end);
        }
    }
}

/// What is in y at the quads that are parked, where the sums are added to it (else 0).
struct Before {
    float v[kParkQuads][4];

    __device__ void load(const LinearOut& out, const Rows<false>& rows, int first_quad) {
        const int first_token = 8 * first_quad + static_cast<int>(threadIdx.x) % 4 * 2;
        const auto stride = static_cast<std::uint32_t>(out.y_stride);
        const float* low = out.y + static_cast<std::uint32_t>(first_token) * stride + rows.row[0];
        const int low_end = rows.there[0] && out.add ? out.n_tokens - first_token : 0;
        const int high_end = rows.there[1] && out.add ? out.n_tokens - first_token : 0;
#pragma unroll
        for (int j = 0; j < kParkQuads; ++j) {
            const float* y = low + static_cast<std::uint32_t>(8 * j) * stride;
            v[j][0] = 8 * j < low_end ? y[0] : 0.0F;
            v[j][1] = 8 * j + 1 < low_end ? y[stride] : 0.0F;
            v[j][2] = 8 * j < high_end ? y[8] : 0.0F;
            v[j][3] = 8 * j + 1 < high_end ? y[stride + 8] : 0.0F;
        }
    }
};

/// Those quads, of which kOthers blocks left sums too.
template <int kOthers>
__device__ void finish_parked(const Shared& shared, const LinearOut& out, const Rows<false>& rows,
                              int first_quad, const Before& before,
                              const int4 (&more)[kOthers][kParkQuads]) {
    const int first_token = 8 * first_quad + static_cast<int>(threadIdx.x) % 4 * 2;
    const auto stride = static_cast<std::uint32_t>(out.y_stride);
    float* const low = out.y + static_cast<std::uint32_t>(first_token) * stride + rows.row[0];
    const int low_end = rows.there[0] ? out.n_tokens - first_token : 0;
    const int high_end = rows.there[1] ? out.n_tokens - first_token : 0;
#pragma unroll
    for (int j = 0; j < kParkQuads; ++j) {
        int4 sum = shared.park[j][threadIdx.x];
#pragma unroll
        for (int o = 0; o < kOthers; ++o) {
            sum.x += more[o][j].x;
            sum.y += more[o][j].y;
            sum.z += more[o][j].z;
            sum.w += more[o][j].w;
        }
        finish_quad(out, rows, shared.a + first_token + 8 * j, sum, out.add, before.v[j],
                    low + static_cast<std::uint32_t>(8 * j) * stride, 8 * j, low_end, high_end);
    }
}

/// A piece of kPieces of a tile: leaves the sums of the tokens that others finish, finishes its
/// own. A warp meets only the same warp of the other blocks: the count of a block has kBits for
/// each of its warps, how many left sums for it, and the warp takes them off again. What is in y is
/// on its way meanwhile.
template <int kPieces>
__device__ void pass_part(Shared& shared, const LinearOut& out, const Rows<false>& rows,
                          const Exchange& exchange, int block, const int (&sums)[128]) {
    constexpr int kBits = 4;
    constexpr int kPart = kQuads / kPieces;
    constexpr int kOthers = kPieces - 1;
    static_assert(kOthers < 1 << kBits && kMultiplyThreads / 32 * kBits <= 32);
    const int piece = block / kPair % kPieces;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int shift = static_cast<int>(threadIdx.x) / 32 * kBits;
    const auto other = [&](int o) { return block + ((o < piece ? o : o + 1) - piece) * kPair; };
    Before before;
    before.load(out, rows, piece * kPart);
    leave_sums(sums, exchange.sums + static_cast<std::size_t>(block) * kBlockSums, piece * kPart,
               kPart);
    __syncwarp();
    if (lane < kOthers) add_release(exchange.counts + other(lane), 1U << shift);
    park_quads(shared, sums, piece * kPart);
    if (lane == 0) {
        std::uint32_t* count = exchange.counts + block;
        while ((load_acquire(count) >> shift & ((1U << kBits) - 1)) != std::uint32_t{kOthers}) {
        }
        atomicSub(count, std::uint32_t{kOthers} << shift);
    }
    __syncwarp();
#pragma unroll
    for (int begin = 0; begin < kPart; begin += kParkQuads) {
        const int first_quad = piece * kPart + begin;
        if (8 * first_quad >= out.n_tokens) break;
        if (begin > 0) {
            park_quads(shared, sums, first_quad);
            before.load(out, rows, first_quad);
        }
        int4 more[kOthers][kParkQuads];
#pragma unroll
        for (int o = 0; o < kOthers; ++o) {
            const int4* from = exchange.sums + static_cast<std::size_t>(other(o)) * kBlockSums +
                               first_quad * kMultiplyThreads + threadIdx.x;
#pragma unroll
            for (int j = 0; j < kParkQuads; ++j)
                more[o][j] = __ldcg(from + j * kMultiplyThreads);
        }
        finish_parked<kOthers>(shared, out, rows, first_quad, before, more);
    }
}

/// LIN-3, bias (LIN-1), SwiGLU (SWI-1) and the store of a whole tile, without a branch for
/// kQuadsAtOnce quads, so that their values are made at once. Unrolled as a whole, these are 40 KB
/// of instructions that each block fetches for one or two tiles; so a loop, with the sums parked.
template <bool kBiased>
__device__ void finish_gate(Shared& shared, const LinearOut& out, const Rows<true>& rows,
                            const int (&sums)[128]) {
    const int first_token = static_cast<int>(threadIdx.x) % 4 * 2;
    const auto stride = static_cast<std::uint32_t>(out.y_stride);
    float* const first = out.y + static_cast<std::uint32_t>(first_token) * stride + rows.row[0];
    const int n_tokens = rows.there[0] ? out.n_tokens - first_token : 0;
#pragma unroll 1
    for (int begin = 0; begin < kQuads && 8 * begin < out.n_tokens; begin += kQuadsAtOnce) {
        if (begin % kParkQuads == 0) park_quads(shared, sums, begin);
        int4 quads[kQuadsAtOnce];
#pragma unroll
        for (int j = 0; j < kQuadsAtOnce; ++j)
            quads[j] = shared.park[begin % kParkQuads + j][threadIdx.x];
#pragma unroll
        for (int j = 0; j < kQuadsAtOnce; ++j) {
            const int token = 8 * (begin + j);
            const float2 scale = *reinterpret_cast<const float2*>(shared.a + token + first_token);
            const int sum[4] = {quads[j].x, quads[j].y, quads[j].z, quads[j].w};
            float v[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                v[i] = mul(static_cast<float>(sum[i]),
                           mul(i % 2 == 0 ? scale.x : scale.y, rows.d[i / 2]));  // LIN-3
                if constexpr (kBiased) v[i] = add(v[i], rows.bias[i / 2]);
            }
            const float low = swiglu(v[0], v[2]);
            const float high = swiglu(v[1], v[3]);
            float* y = first + static_cast<std::uint32_t>(token) * stride;
            if (token < n_tokens) y[0] = low;
            if (token + 1 < n_tokens) y[stride] = high;
        }
    }
}

template <bool kGate>
__device__ void multiply_pieces(Shared& shared, const E8View& w, const float* row_scales,
                                const LinearOut& out, const Work& work, const Exchange& exchange,
                                int pair, int rank) {
    const int thread = static_cast<int>(threadIdx.x);
    const int group = thread / kGroupThreads;
    wait_for_kernels_before();
    shared.a[thread] = thread < out.n_tokens ? row_scales[thread] : 0.0F;
    named_sync(1, kMultiplyThreads);
    const int block = pair * kPair + rank;
    RingPlace place;
    for (Pieces piece(work, pair); piece.n > 0; piece.next(work)) {
        const Rows<kGate> rows(w, out, (piece.tile * kPair + rank) * kTileRows);
        int sums[128];
        multiply(shared, group, piece.n, place, sums);
        if constexpr (kGate) {
            out.bias == nullptr ? finish_gate<false>(shared, out, rows, sums)
                                : finish_gate<true>(shared, out, rows, sums);
        } else if (work.n_pieces == 1) {
            out.add ? finish<true>(out, rows, shared.a, sums)
                    : finish<false>(out, rows, shared.a, sums);
        } else {
            work.n_pieces == 2 ? pass_part<2>(shared, out, rows, exchange, block, sums)
                               : pass_part<kPiecesMax>(shared, out, rows, exchange, block, sums);
            return;  // it is the only one
        }
    }
}

#endif

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3); kGate: y[t][row] is SwiGLU of this
/// for row and for R / 2 + row (SWI-1).
///   in:  w int8 [R, stride] and x int8 [T, stride] by tensor maps, |q| <= 127, x zero from K on;
///        w.d binary32 [R]; row_scales binary32 [T]; exchange, for the launch alone
///   out: out.y
///   tile: 256 rows x all tokens, by two blocks of a cluster that take 128 rows each and share the
///         tokens: each copies half of them to both; a warpgroup copies, two multiply 64 rows each,
///         with the weights as the left matrix; stages of 128 bytes of K, 4 of them; shared:
///         225 KB; pairs go on to the next tile; few tiles are cut into pieces of K, but for kGate
///   floor: stride + 4 bytes a row, of the read speed, or 512 R K operations, of the int8 peak
///   supported: out.n_tokens <= 256, any R, stride a multiple of 16, out.token_of null; all blocks
///              run at the same time; kGate: R a multiple of 16, n_pieces 1, out.add false
template <bool kGate>
__global__ void __launch_bounds__(kThreads, 1)
    linear_e8_pairs_sm90(const __grid_constant__ CUtensorMap x_map,
                         const __grid_constant__ CUtensorMap w_map, E8View w,
                         const float* row_scales, LinearOut out, Work work, Exchange exchange) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) std::uint8_t bytes[];
    Shared& shared = *reinterpret_cast<Shared*>(bytes);
    const int rank = static_cast<int>(cluster_rank());
    const int pair = static_cast<int>(blockIdx.x) / kPair;
    if (threadIdx.x == kMultiplyThreads) {
        prefetch_map(x_map);
        prefetch_map(w_map);
    }
    if (threadIdx.x == 0) {
        for (int i = 0; i < kStages; ++i) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], kPair * kMultiplyThreads / 32);
        }
        barrier_init_fence();
    }
    cluster_sync();
    let_next_kernel_start();
    if (threadIdx.x >= kMultiplyThreads) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCopyRegisters));
        if (threadIdx.x == kMultiplyThreads)
            copy_pieces<kGate>(shared, x_map, w_map, work, pair, rank, w.fresh);
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kMultiplyRegisters));
        multiply_pieces<kGate>(shared, w, row_scales, out, work, exchange, pair, rank);
    }
    // A block that ended could not take the copies and arrivals of the other one.
    __syncwarp();
    cluster_sync();
#endif
}

/// Whole tiles where there are many; else pieces, for as many pairs as run at the same time.
Work cut_work(int n_rows, int n_steps, int n_tokens, int n_pairs_max, bool may_split) {
    constexpr int kEight = 8;  // rows of the swizzle
    const auto tiles = [](int n, int size) { return (n + size - 1) / size; };
    Work work{n_rows, n_steps, tiles(n_rows, kPair * kTileRows),
              0,      1,       tiles(n_tokens, kPair * kEight) * kEight};
    while (may_split && 2 * work.n_pieces <= std::min(kPiecesMax, n_steps / kPieceStepsMin) &&
           2 * work.n_pieces * work.n_tiles <= n_pairs_max)
        work.n_pieces *= 2;
    const int rounds = tiles(work.n_tiles, n_pairs_max);
    work.n_pairs = tiles(work.n_tiles, rounds) * work.n_pieces;
    return work;
}

/// Pairs that the current card runs at the same time. The same kernel is asked for whose shared
/// memory is allowed already: for another one the answer is none.
template <bool kGate>
int pairs_at_once(int n_multiprocessors) {
    constexpr int kDevicesMax = 64;
    static std::array<std::atomic<int>, kDevicesMax> known{};  // 0: not asked yet
    int device = 0;
    check(cudaGetDevice(&device), "current device");
    ETALON_ASSERT(device >= 0 && device < kDevicesMax);
    std::atomic<int>& pairs = known[static_cast<std::size_t>(device)];
    if (pairs.load(std::memory_order_relaxed) == 0) {
        cudaLaunchAttribute attribute{};
        attribute.id = cudaLaunchAttributeClusterDimension;
        attribute.val.clusterDim.x = kPair;
        attribute.val.clusterDim.y = 1;
        attribute.val.clusterDim.z = 1;
        cudaLaunchConfig_t config{};
        config.gridDim = dim3(static_cast<unsigned>(n_multiprocessors / kPair * kPair));
        config.blockDim = dim3(kThreads);
        config.dynamicSmemBytes = sizeof(Shared);
        config.attrs = &attribute;
        config.numAttrs = 1;
        int n = 0;
        check(cudaOccupancyMaxActiveClusters(&n, linear_e8_pairs_sm90<kGate>, &config),
              "pairs of linear_e8_pairs");
        pairs.store(std::max(1, std::min(n, n_multiprocessors / kPair)), std::memory_order_relaxed);
    }
    return pairs.load(std::memory_order_relaxed);
}

template <bool kGate>
void launch(const E8View& w, const ActivationsView& x, const LinearOut& out, int n_multiprocessors,
            const SplitSums& split, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kTileTokens && w.n_rows >= 1);
    ETALON_ASSERT(w.stride == x.stride && out.token_of == nullptr && n_multiprocessors >= kPair);
    let_have_shared("linear_e8_pairs", linear_e8_pairs_sm90<kGate>,
                    static_cast<int>(sizeof(Shared)));
    const int n_pairs = pairs_at_once<kGate>(n_multiprocessors);
    const Work work = cut_work(w.n_rows, (w.stride + kStep - 1) / kStep, out.n_tokens, n_pairs,
                               !kGate && split.n_blocks >= n_pairs * kPair);
    const CUtensorMap x_map = tensor_map(x.row_q, out.n_tokens, x.stride, work.half_tokens);
    const CUtensorMap w_map = kGate ? tensor_map_gate_up(w.q, w.n_rows, w.stride, kTileRows)
                                    : tensor_map(w.q, w.n_rows, w.stride, kTileRows);
    const Exchange exchange{reinterpret_cast<int4*>(split.sums), split.counts};
    launch_cluster("linear_e8_pairs", linear_e8_pairs_sm90<kGate>,
                   dim3(static_cast<unsigned>(work.n_pairs * kPair)), kThreads, kPair,
                   sizeof(Shared), stream, x_map, w_map, w, x.row_scales, out, work, exchange);
}

}  // namespace

bool pairs_are_faster(int n_tokens, int n_rows, int stride) noexcept {
    // Fewer tokens leave the tensor cores idle. Less of a matrix gives each pair a few steps only,
    // and then clusters with shared sums (linear_e8_few.cu) come to an end sooner.
    constexpr int kTokensMin = 129;
    constexpr std::int64_t kBytesMin = std::int64_t{32} << 20;
    return n_tokens >= kTokensMin && n_tokens <= kTileTokens &&
           static_cast<std::int64_t>(n_rows) * stride >= kBytesMin;
}

void launch_linear_e8_pairs_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                 int n_multiprocessors, const SplitSums& split, Stream stream) {
    launch<false>(w, x, out, n_multiprocessors, split, stream);
}

void launch_gate_up_e8_pairs_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                  int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(w.n_rows % 16 == 0 && !out.add);
    launch<true>(w, x, out, n_multiprocessors, {}, stream);
}

}  // namespace etalon::backend::cuda

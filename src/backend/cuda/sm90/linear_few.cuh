// SPDX-License-Identifier: Apache-2.0
// Linear layers of up to 256 tokens on the tensor cores of sm_90a: what those of E8 and of E4 share
// (spec LIN-2, LIN-3). `Weights` says what a stage of the ring holds of them, how it is copied and
// how it is multiplied:
//   kStep                 columns of a stage, whole tiles of the copy engine
//   kUp                   rows of gate that stand together, and of up behind them
//   kStagesMin            of a ring
//   kTokensMin            of the smallest tile
//   Stage<kTokens>        w and x, a multiple of 1024 bytes each
//   Source                a parameter of the kernel: where the weights lie
//   Room, load()          what a block keeps in shared memory beside the ring
//   blocks(n_tokens)      of a multiprocessor
//   registers(n_tokens)   of a thread that multiplies, or 0: an equal share
//   bytes(), copy()       of a block's weights in a stage; one thread copies
//   multiply()            the sums of 64 rows and all tokens, by a warpgroup; a stage is released
//                         before the ring comes back to it, the last one need not be
#pragma once

#include <algorithm>
#include <cstddef>
#include <cuda_runtime.h>
#include <type_traits>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/common/tensor_map.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/ptx/wgmma.cuh"
#include "backend/cuda/sm80/linear_out.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda::few {

inline constexpr int kTileRows = 128;
inline constexpr int kGroupThreads = 128;  // a warpgroup
inline constexpr int kGroups = 2;          // that multiply, 64 rows each; one more thread copies
inline constexpr int kMultiplyThreads = kGroups * kGroupThreads;
inline constexpr int kProductK = 32;  // of one instruction
inline constexpr int kPartsMax = 4;   // of K: a cluster of more blocks waits longer for its places
inline constexpr int kQuad = 4;       // rows that a thread finishes together
inline constexpr int kSumsPitch =
    kTileRows + kQuad;  // the four lanes of two tokens meet in no bank
// Bytes of stages where two blocks share a multiprocessor, and where one has it for itself.
inline constexpr std::size_t kHalfShared = 112 * 1024;
inline constexpr std::size_t kAllShared = 226 * 1024;
inline constexpr int kStagesMax = 16;

template <typename Weights, int kTokens>
struct Shared {
    Barrier full[kStagesMax];
    Barrier empty[kStagesMax];
    typename Weights::Room room;
    // As many as there is room for; and then the sums, int32 [kTokens, kSumsPitch].
    alignas(1024) typename Weights::template Stage<kTokens> stages[1];
};

/// How blocks of so many tokens are cut.
template <typename Weights, int kTokens>
struct Cut {
    using Stage = typename Weights::template Stage<kTokens>;
    using Whole = Shared<Weights, kTokens>;
    static constexpr int kBlocks = Weights::blocks(kTokens);  // of a multiprocessor
    /// Of a thread that multiplies, where that is more than an equal share: the others, a warpgroup
    /// then, give theirs away.
    static constexpr int kRegisters = Weights::registers(kTokens);
    static constexpr int kThreads =
        kMultiplyThreads + (kRegisters > 0 ? kGroupThreads : kWarpLanes);
    /// What the compiler gives each thread of such a block, in steps of eight; and what is left for
    /// who copies. A thread that asks for more than there is waits forever.
    static constexpr int kEqualRegisters = (1 << 16) / (kBlocks * kThreads) / 8 * 8;
    static constexpr int kHelperRegisters = kBlocks == 2 ? 32 : 40;
    static_assert(kRegisters == 0 ||
                  kGroups * kRegisters + kHelperRegisters <= (kGroups + 1) * kEqualRegisters);
    static constexpr std::size_t bytes(int n_stages) {
        return offsetof(Whole, stages) + static_cast<std::size_t>(n_stages) * sizeof(Stage);
    }
    static constexpr int stages_in(std::size_t room) {
        return std::min(static_cast<int>((room - (bytes(0) - 1024)) / sizeof(Stage)), kStagesMax);
    }
    static constexpr int kStages = stages_in(kBlocks == 2 ? kHalfShared : kAllShared);
    /// Where there are fewer blocks than multiprocessors.
    static constexpr int kStagesLong = stages_in(kAllShared);
};

/// What all threads know. K is cut into n_parts; the blocks of a cluster take one each and add
/// their sums at the end.
struct Work {
    int n_rows;
    int n_steps;  // of K
    int n_parts;
    int n_stages;    // of the ring
    int n_copied;    // tokens of a block: those that are not there are slow to copy
    const float* d;  // [n_rows]
    bool fresh;      // as E8View::fresh
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// What one block does.
struct Block {
    int first_token;
    int part;       // of K: its rank in the cluster
    int first_row;  // of the tile
    int first_step;
    int n_steps;

    __device__ explicit Block(const Work& work) {
        first_token = static_cast<int>(blockIdx.y) * work.n_copied;
        part = static_cast<int>(blockIdx.x) % work.n_parts;
        first_row = static_cast<int>(blockIdx.x) / work.n_parts * kTileRows;
        first_step = part * work.n_steps / work.n_parts;
        n_steps = (part + 1) * work.n_steps / work.n_parts - first_step;
    }
};

/// The thread that copies. Weights that are not fresh do not depend on the kernels before: the ring
/// is full of them when x is there.
template <typename Weights, int kTokens, bool kGate>
__device__ void copy_steps(Shared<Weights, kTokens>& shared, const CUtensorMap& x,
                           const typename Weights::Source& source, const Block& block,
                           const Work& work) {
    const int n_stages = work.n_stages;
    const int n_bytes = Weights::bytes(source, block.first_row) + work.n_copied * Weights::kStep;
    const auto copy_w = [&](int stage, int step) {
        barrier_arrive_expect(shared.full[stage], n_bytes);
        Weights::template copy<kGate>(source, shared.stages[stage].w, block.first_step + step,
                                      block.first_row, shared.full[stage]);
    };
    const auto copy_x = [&](int stage, int step) {
#pragma unroll
        for (int column = 0; column < Weights::kStep; column += kTensorTileBytes) {
            copy_tile(shared.stages[stage].x + column * kTokens, x,
                      (block.first_step + step) * Weights::kStep + column, block.first_token,
                      shared.full[stage]);
        }
    };
    const int n_first = min(block.n_steps, n_stages);
    if (work.fresh) wait_for_kernels_before();
    for (int step = 0; step < n_first; ++step)
        copy_w(step, step);
    wait_for_kernels_before();
    for (int step = 0; step < n_first; ++step)
        copy_x(step, step);
    RingPlace place;
    for (int step = n_stages; step < block.n_steps; ++step, place.next(n_stages)) {
        barrier_wait(shared.empty[place.stage], place.parity);
        copy_w(place.stage, step);
        copy_x(place.stage, step);
    }
}

/// The thread's sums to [kTokens, kSumsPitch].
template <int kTokens>
__device__ void store_sums(const int (&sums)[kTokens / 2], int* to) {
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % 32;
    to += lane % 4 * 2 * kSumsPitch + thread / 32 * 16 + lane / 4;
#pragma unroll
    for (int j = 0; j < kTokens / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            to[(8 * j + i % 2) * kSumsPitch + i / 2 * 8] = sums[4 * j + i];
    }
}

/// The rows of y that a thread finishes: four of the block's part of the tile, for every so many
/// tokens. kGate: each has two of the tile, gate and up in turns of kUpPlaces.
template <bool kGate, int kUpPlaces>
struct Rows {
    static constexpr int kOfTile = kGate ? 2 : 1;
    static constexpr int kUp = kUpPlaces;

    int place;  // in the tile
    int row;
    int n_rows;
    int first_token;
    int token_step;
    bool whole;  // all four are there, and y has them in one word
    float d[kOfTile][kQuad];
    float bias[kOfTile][kQuad];

    __device__ Rows(const Block& block, const Work& work, const LinearOut& out) {
        const int thread = static_cast<int>(threadIdx.x);
        const int n_quads = kTileRows / kOfTile / kQuad / work.n_parts;
        constexpr int kTurn = kUp / kQuad;
        const int quad = block.part * n_quads + thread % n_quads;
        place = kGate ? quad / kTurn * 2 * kUp + quad % kTurn * kQuad : quad * kQuad;
        row = block.first_row / kOfTile + quad * kQuad;
        n_rows = work.n_rows / kOfTile;
        first_token = row < n_rows ? thread / n_quads : out.n_tokens;
        token_step = kMultiplyThreads / n_quads;
        whole = row + kQuad <= n_rows && out.y_stride % kQuad == 0 &&
                reinterpret_cast<std::uintptr_t>(out.y) % sizeof(float4) == 0;
#pragma unroll
        for (int i = 0; i < kOfTile; ++i) {
#pragma unroll
            for (int r = 0; r < kQuad; ++r) {
                const bool there = row + r < n_rows;
                const int at = i * n_rows + row + r;
                d[i][r] = there ? work.d[at] : 0.0F;
                bias[i][r] = there && out.bias != nullptr ? out.bias[at] : 0.0F;
            }
        }
    }

    /// LIN-3, bias (LIN-1) and SwiGLU (SWI-1) of row r from its sums.
    __device__ float value(const LinearOut& out, const int (&all)[kOfTile][kQuad], float a,
                           int r) const {
        float v[kOfTile];
#pragma unroll
        for (int i = 0; i < kOfTile; ++i) {
            v[i] = mul(static_cast<float>(all[i][r]), mul(a, d[i][r]));  // LIN-3
            if (out.bias != nullptr) v[i] = add(v[i], bias[i][r]);
        }
        if constexpr (kGate) return swiglu(v[0], v[1]);
        return v[0];
    }
};

/// The values of kAtOnce tokens, residual (RES-1) and the store, all loads first.
template <int kParts, bool kAdd, bool kGate, int kUp>
__device__ void finish_tokens(const LinearOut& out, const Rows<kGate, kUp>& rows,
                              const float* row_scales, const int* sums, int first) {
    constexpr int kOfTile = Rows<kGate, kUp>::kOfTile;
    constexpr int kAtOnce = (kParts == kPartsMax ? 2 : 4) / kOfTile;  // registers
    for (int token = first; token < out.n_tokens; token += kAtOnce * rows.token_step) {
        int4 parts[kAtOnce][kOfTile][kParts];
        float4 before[kAtOnce];
        float a[kAtOnce];
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int t = token + i * rows.token_step;
            if (t >= out.n_tokens) break;
#pragma unroll
            for (int half = 0; half < kOfTile; ++half) {
                const auto* at =
                    reinterpret_cast<const int4*>(sums + t * kSumsPitch + rows.place + half * kUp);
#pragma unroll
                for (int p = 0; p < kParts; ++p) {
                    if constexpr (kParts == 1) {
                        parts[i][half][p] = *at;
                    } else {
                        parts[i][half][p] = load_at(at, static_cast<std::uint32_t>(p));
                    }
                }
            }
            a[i] = row_scales[t];
            if constexpr (kAdd) {
                const float* y = out.y + static_cast<std::size_t>(t) * out.y_stride + rows.row;
                before[i] = *reinterpret_cast<const float4*>(y);
            }
        }
#pragma unroll
        for (int i = 0; i < kAtOnce; ++i) {
            const int t = token + i * rows.token_step;
            if (t >= out.n_tokens) break;
            int all[kOfTile][kQuad];
#pragma unroll
            for (int half = 0; half < kOfTile; ++half) {
                int4 sum = parts[i][half][0];
#pragma unroll
                for (int p = 1; p < kParts; ++p) {
                    const int4 part = parts[i][half][p];
                    sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
                }
                all[half][0] = sum.x;
                all[half][1] = sum.y;
                all[half][2] = sum.z;
                all[half][3] = sum.w;
            }
            float v[kQuad];
#pragma unroll
            for (int r = 0; r < kQuad; ++r)
                v[r] = rows.value(out, all, a[i], r);
            if constexpr (kAdd) {  // RES-1
                v[0] = add(before[i].x, v[0]);
                v[1] = add(before[i].y, v[1]);
                v[2] = add(before[i].z, v[2]);
                v[3] = add(before[i].w, v[3]);
            }
            float* y = out.y + static_cast<std::size_t>(t) * out.y_stride + rows.row;
            *reinterpret_cast<float4*>(y) = {v[0], v[1], v[2], v[3]};
        }
    }
}

/// The same for rows that are not whole.
template <bool kGate, int kUp>
__device__ void finish_some(const LinearOut& out, const Rows<kGate, kUp>& rows,
                            const float* row_scales, const int* sums, const Work& work) {
    constexpr int kOfTile = Rows<kGate, kUp>::kOfTile;
    for (int t = rows.first_token; t < out.n_tokens; t += rows.token_step) {
        int all[kOfTile][kQuad] = {};
#pragma unroll
        for (int half = 0; half < kOfTile; ++half) {
            const auto* at =
                reinterpret_cast<const int4*>(sums + t * kSumsPitch + rows.place + half * kUp);
            for (int p = 0; p < work.n_parts; ++p) {
                const int4 part = load_at(at, static_cast<std::uint32_t>(p));
                all[half][0] += part.x;
                all[half][1] += part.y;
                all[half][2] += part.z;
                all[half][3] += part.w;
            }
        }
#pragma unroll
        for (int r = 0; r < kQuad; ++r) {
            if (rows.row + r >= rows.n_rows) break;
            const float v = rows.value(out, all, row_scales[t], r);
            float& y = out.y[static_cast<std::size_t>(t) * out.y_stride +
                             static_cast<std::size_t>(rows.row + r)];
            y = out.add ? add(y, v) : v;  // RES-1
        }
    }
}

/// The choice of finish_tokens() and finish_some().
template <bool kGate, int kUp>
__device__ void finish(const LinearOut& out, const Rows<kGate, kUp>& rows, const float* row_scales,
                       const int* sums, const Work& work) {
    if (!rows.whole) return finish_some(out, rows, row_scales, sums, work);
    const auto tokens = [&](auto parts, auto adds) {
        finish_tokens<parts.value, adds.value>(out, rows, row_scales, sums, rows.first_token);
    };
    const auto choose = [&](auto parts) {
        if constexpr (kGate) {
            tokens(parts, std::false_type{});
        } else {
            out.add ? tokens(parts, std::true_type{}) : tokens(parts, std::false_type{});
        }
    };
    if (work.n_parts == 1) return choose(std::integral_constant<int, 1>{});
    if (work.n_parts == 2) return choose(std::integral_constant<int, 2>{});
    choose(std::integral_constant<int, kPartsMax>{});
}

#endif

/// y[t][row] = float(sum_k q_w q_x) (a_t d_row) (LIN-2, LIN-3); kGate: y[t][row] is SwiGLU of this
/// for row and for R / 2 + row (SWI-1).
///   in:  w by its source and x int8 [T, stride] by a tensor map, |q| <= 127, x zero from K on;
///        work.d binary32 [R]; row_scales binary32 [T]
///   out: out.y
///   tile: 128 rows x all tokens, or half of them, of a part of K; a thread copies, two warpgroups
///         multiply 64 rows each, with the weights as the left matrix; stages of kStep columns;
///         the blocks of a cluster share the rows and each takes a part of K (integer sums have no
///         order); shared: half of a multiprocessor's where it has two blocks; all of it where it
///         has one, and where blocks are few
///   floor: the bytes of the weights, of the read speed
///   supported: out.n_tokens <= kTokens * gridDim.y, any R, stride a multiple of 16, n_parts a
///              power of two and at most n_steps, out.token_of null; kGate: R a multiple of 2 kUp,
///              out.add false
template <typename Weights, int kTokens, bool kGate>
__global__ void __launch_bounds__((Cut<Weights, kTokens>::kThreads),
                                  (Cut<Weights, kTokens>::kBlocks))
    linear_few_sm90(const __grid_constant__ CUtensorMap x_map,
                    const __grid_constant__ typename Weights::Source source,
                    const float* row_scales, LinearOut out, Work work) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(1024) std::uint8_t bytes[];
    auto& shared = *reinterpret_cast<Shared<Weights, kTokens>*>(bytes);
    const Block block(work);
    const bool alone = work.n_parts == 1;
    out.y += static_cast<std::size_t>(block.first_token) * out.y_stride;
    out.n_tokens = min(work.n_copied, out.n_tokens - block.first_token);
    row_scales += block.first_token;
    if (threadIdx.x == 0) {
        for (int i = 0; i < work.n_stages; ++i) {
            barrier_init(shared.full[i], 1);
            barrier_init(shared.empty[i], kMultiplyThreads / kWarpLanes * kWarpArrivals);
        }
        barrier_init_fence();
    }
    Weights::load(source, shared.room);
    __syncthreads();
    let_next_kernel_start();
    int* to = reinterpret_cast<int*>(shared.stages);
    using Size = Cut<Weights, kTokens>;
    if (threadIdx.x >= kMultiplyThreads) {
        if constexpr (Size::kRegisters > 0)
            asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Size::kHelperRegisters));
        if (threadIdx.x == kMultiplyThreads)
            copy_steps<Weights, kTokens, kGate>(shared, x_map, source, block, work);
        __syncwarp();
        if (!alone) cluster_sync();
    } else {
        if constexpr (Size::kRegisters > 0)
            asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Size::kRegisters));
        const Rows<kGate, Weights::kUp> rows(block, work, out);
        int sums[kTokens / 2];
        Weights::template multiply<kTokens>(shared, block.n_steps, work.n_stages, sums);
        named_sync(1, kMultiplyThreads);  // no one reads the ring any more
        store_sums<kTokens>(sums, to);
        wait_for_kernels_before();
        alone ? named_sync(1, kMultiplyThreads) : cluster_sync();
        finish(out, rows, row_scales, to, work);
    }
    if (!alone) {
        __syncwarp();
        cluster_sync();  // the others read this block's sums
    }
#endif
}

/// What a thread of the kernel starts with.
template <typename... Parameters>
int registers_of(void (*kernel)(Parameters...)) {
    cudaFuncAttributes attributes{};
    check(cudaFuncGetAttributes(&attributes, kernel), "registers of a kernel");
    return attributes.numRegs;
}

/// Starts it. work.n_rows, d and fresh are those of the weights.
template <typename Weights, int kTokens, bool kGate>
void launch(Work work, const typename Weights::Source& source, const ActivationsView& x,
            const LinearOut& out, int n_multiprocessors, Stream stream) {
    using Size = Cut<Weights, kTokens>;
    static_assert(Size::kStages >= Weights::kStagesMin && Size::kStagesLong <= kStagesMax);
    static_assert(sizeof(typename Size::Stage) % 1024 == 0 && Size::bytes(0) % 1024 == 0);
    static_assert(sizeof(int) * kTokens * kSumsPitch <=
                  Size::kStages * sizeof(typename Size::Stage));
    const auto tiles = [](int n, int size) { return (n + size - 1) / size; };
    const int n_tiles = tiles(work.n_rows, kTileRows);
    constexpr int kEight = 8;  // rows of the swizzle
    const int n_halves = tiles(out.n_tokens, kTokens);
    work.n_steps = tiles(x.stride, Weights::kStep);
    work.n_parts = 1;
    work.n_stages = Size::kStages;
    work.n_copied = tiles(tiles(out.n_tokens, n_halves), kEight) * kEight;
    // Few blocks have a multiprocessor each, and a long ring.
    const bool spread = 2 * n_tiles <= n_multiprocessors * 3 / 4;
    const int n_parts_max = kTokens == kFewTokensMax || spread ? 2 : kPartsMax;
    while (2 * work.n_parts <= std::min(n_parts_max, work.n_steps) &&
           2 * work.n_parts * n_tiles <= Size::kBlocks * n_multiprocessors)
        work.n_parts *= 2;
    if (spread) work.n_stages = Size::kStagesLong;
    const CUtensorMap x_map = tensor_map(x.row_q, out.n_tokens, x.stride, work.n_copied);
    const auto kernel = linear_few_sm90<Weights, kTokens, kGate>;
    let_have_shared("linear_few", kernel, static_cast<int>(Size::bytes(Size::kStagesLong)));
    if constexpr (Size::kRegisters > 0) {
        static const int n_registers = registers_of(kernel);
        ETALON_ASSERT(n_registers == Size::kEqualRegisters);
    }
    launch_cluster(
        "linear_few", kernel,
        dim3(static_cast<unsigned>(n_tiles * work.n_parts), static_cast<unsigned>(n_halves)),
        Size::kThreads, work.n_parts, Size::bytes(work.n_stages), stream, x_map, source,
        x.row_scales, out, work);
}

/// Calls launcher(std::integral_constant<int, kTokens>) for the tile of so many tokens.
template <typename Weights, typename Launcher>
void launch_tokens(int n_rows, int n_tokens, int n_multiprocessors, const Launcher& launcher) {
    const auto run = [&](auto n) { launcher(n); };
    if constexpr (Weights::kTokensMin <= 8) {
        if (n_tokens <= 8) return run(std::integral_constant<int, 8>{});
    }
    if (n_tokens <= 16) return run(std::integral_constant<int, 16>{});
    if (n_tokens <= 32) return run(std::integral_constant<int, 32>{});
    if (n_tokens <= 64) return run(std::integral_constant<int, 64>{});
    // Where tiles of all tokens leave half of the card idle, two take half of the tokens each.
    const int n_tiles = (n_rows + kTileRows - 1) / kTileRows;
    if (n_tokens <= 128 || 4 * n_tiles <= n_multiprocessors)
        return run(std::integral_constant<int, 128>{});
    run(std::integral_constant<int, kFewTokensMax>{});
}

}  // namespace etalon::backend::cuda::few

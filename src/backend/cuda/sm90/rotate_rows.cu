// SPDX-License-Identifier: Apache-2.0
// Many rows of floats to the input of E8 layers where the rotation is a butterfly over blocks of
// 2,048 elements: a warp keeps such a block in its registers (spec ROT-3, QNT-1, QNT-2, QNT-4,
// ERR-1). Few rows and other rotations: sm80/quantize_e8.cu.
#include <algorithm>
#include <cuda_runtime.h>

#include "backend/cuda/common/butterfly.cuh"
#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "backend/cuda/sm90/square_rows.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kSize = 2048;                // elements of a butterfly
constexpr int kMine = kSize / kWarpLanes;  // of a lane
constexpr int kQuads = kMine / 4;
constexpr int kWarpsMax = 8;  // butterflies of a row: m of ROT-2 is odd
/// Warps of a multiprocessor: six in each quarter of it have 80 registers a lane and spill none.
constexpr int kWarpsAtOnce = 24;

/// A butterfly's elements, 64 successive ones a row. A row is a quad longer than them, so that
/// eight lanes, each with the same quad of its own row, meet in no bank.
struct Room {
    float4 rows[kWarpLanes][kQuads + 1];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// From memory to the room, neighbours in neighbouring lanes. The copy engine has no part in it: a
/// row would be a copy of its own, and it takes as long for a short one.
__device__ void copy_rows(Room& room, const float* from, int lane) {
    const auto* quads = reinterpret_cast<const float4*>(from) + lane;
    float4* to = &room.rows[lane / kQuads][lane % kQuads];
    constexpr int kRowsAtOnce = kWarpLanes / kQuads;
#pragma unroll 4  // all at once need more pointers than there are registers left
    for (int i = 0; i < kQuads; ++i)
        copy_async_16(to + i * kRowsAtOnce * (kQuads + 1), quads + i * kWarpLanes);
    copy_async_commit();
}

/// A stored result of turn_row() from all lanes: element 64 j + 2 lane + i is v[2 j + i].
__device__ void load_columns(const Room& room, int lane, float (&v)[kMine]) {
#pragma unroll
    for (int j = 0; j < kWarpLanes; ++j) {
        const float2 pair = reinterpret_cast<const float2*>(room.rows[j])[lane];
        v[2 * j] = pair.x;
        v[2 * j + 1] = pair.y;
    }
}

/// The codes of the same elements; inverse 0: all are 0.
__device__ void store_codes(const float (&v)[kMine], float inverse, std::int8_t* of_warp,
                            int lane) {
    auto* to = reinterpret_cast<std::uint16_t*>(of_warp) + lane;
    if (inverse != 0.0F) {
#pragma unroll
        for (int j = 0; j < kWarpLanes; ++j)
            to[j * kWarpLanes] = static_cast<std::uint16_t>(
                low_bytes(code_bits(v[2 * j], inverse), code_bits(v[2 * j + 1], inverse)));
    } else {
#pragma unroll
        for (int j = 0; j < kWarpLanes; ++j)
            to[j * kWarpLanes] = 0;
    }
}

#endif

/// R (ROT-3) and int8 (QNT-2) of rows of up to 8 blocks of 2,048 elements.
///   in:  s [T, K] binary32, 16-byte alignment
///   out: x.row_q, x.row_scales; failed [T]
///   tile: a row a block of K / 2048 warps, which goes on to the row gridDim.x behind it; a
///         butterfly a warp; shared: 4.25 K bytes. Bits 0 to 5 of an element are first those of the
///         place in a lane and bits 6 to 10 the lane; then the lane is bits 1 to 5
///   floor: 5 K bytes a token, of the read speed
///   supported: K = 2048 m, m <= 8
__global__ void __launch_bounds__(kWarpsAtOnce* kWarpLanes, 1)
    rotate_rows_sm90(const float* s, ActivationsView x, std::uint8_t* failed, int n_tokens) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __shared__ std::uint32_t largest_of[2][kWarpsMax];
    extern __shared__ float4 dynamic[];
    const int lane = static_cast<int>(threadIdx.x % kWarpLanes);
    const int warp = static_cast<int>(threadIdx.x / kWarpLanes);
    const int n_warps = static_cast<int>(blockDim.x / kWarpLanes);
    Room& room = reinterpret_cast<Room*>(dynamic)[warp];
    auto token = static_cast<int>(blockIdx.x);
    const auto step = static_cast<int>(gridDim.x);
    const auto begin = [&](int row) {
        return static_cast<std::size_t>(row) * x.n_cols + warp * kSize;
    };
    let_next_kernel_start();
    wait_for_kernels_before();
    copy_rows(room, s + begin(token), lane);
    for (int turn = 0; token < n_tokens; token += step, turn ^= 1) {
        copy_async_wait<0>();
        __syncwarp();
        turn_row<1>(room.rows[lane]);
        __syncwarp();
        float v[kMine];
        load_columns(room, lane, v);
        __syncwarp();
        if (token + step < n_tokens) copy_rows(room, s + begin(token + step), lane);
        butterfly_own<2, 16>(v);
        const std::uint32_t mine = __reduce_max_sync(kFullWarp, largest_bits(v));
        if (lane == 0) largest_of[turn][warp] = mine;  // read until the next row's meeting
        butterfly_own<32, 32>(v);
        __syncthreads();
        const std::uint32_t largest =
            __reduce_max_sync(kFullWarp, lane < n_warps ? largest_of[turn][lane] : 0U);
        // A token that fails reads as zero: the quantizer of 0 (ERR-1).
        const bool ok = largest < kInfinityBits;
        const Quantizer quantizer(ok ? largest : 0U);
        store_codes(v, quantizer.inverse, x.row_q + begin(token), lane);
        if (threadIdx.x != 0) continue;
        x.row_scales[token] = quantizer.scale;
        if (!ok) failed[token] = 1;
    }
#endif
}

}  // namespace

bool launch_rotate_rows_sm90(const BatchView& batch, const float* s, const RotationView& rotation,
                             const ActivationsView& x, int n_multiprocessors, Stream stream) {
    const int n_warps = rotation.m;
    if (rotation.block != kSize || rotation.dct != nullptr || n_warps > kWarpsMax) return false;
    ETALON_ASSERT(batch.n_tokens >= 1 && x.row_q != nullptr);
    ETALON_ASSERT(x.n_cols == n_warps * kSize && x.stride == x.n_cols);
    const std::size_t bytes = sizeof(Room) * static_cast<std::size_t>(n_warps);
    let_have_shared("rotate_rows", rotate_rows_sm90, static_cast<int>(sizeof(Room) * kWarpsMax));
    // As many as run at once: a block takes its warps from the quarters in turn, from the first on.
    const int at_once = kWarpsAtOnce / ((n_warps + 3) / 4 * 4);
    const int n_blocks = std::min(batch.n_tokens, n_multiprocessors * at_once);
    launch_dependent("rotate_rows", rotate_rows_sm90, dim3(static_cast<unsigned>(n_blocks)),
                     n_warps * kWarpLanes, bytes, stream, s, x, batch.failed, batch.n_tokens);
    return true;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Many rows of floats to the input of E8 layers where a row is one butterfly over 4,096 elements:
// two warps keep it in their registers (spec SUM-1, NRM, ROT-3, QNT-1, QNT-2, QNT-4, ERR-1). Few
// rows and other rotations: sm80/quantize_e8.cu.
#include <cuda_runtime.h>

#include "backend/cuda/common/butterfly.cuh"
#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "backend/cuda/sm90/square_rows.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kSize = 4096;  // elements of a row and of its butterfly
constexpr int kWarps = 2;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kMine = kSize / kThreads;  // of a thread
constexpr int kQuads = kMine / 4;
static_assert(kMine == kThreads, "elements are a square: its rows, then its columns");
static_assert(kLanes == 4 * kThreads, "a thread has four lanes of SUM-1");
constexpr int kBlocksAtOnce = 10;  // of a multiprocessor, by registers

/// The elements, 64 successive ones a row. A row is a quad longer than them, so that eight lanes,
/// each with the same quad of its own row, meet in no bank.
struct Shared {
    float4 rows[kThreads][kQuads + 1];
    float4 lanes[kWarpLanes];  // of SUM-1, those of the second warp
    float scale;
    std::uint32_t largest[kWarps];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Of the row the quads t, t + 64, ... to a thread's registers.
__device__ void load_quads(const float* row, int t, float (&v)[kMine]) {
    const auto* quads = reinterpret_cast<const float4*>(row) + t;
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
        const float4 quad = quads[i * kThreads];
        v[4 * i] = quad.x;
        v[4 * i + 1] = quad.y;
        v[4 * i + 2] = quad.z;
        v[4 * i + 3] = quad.w;
    }
}

/// The lanes 4 t to 4 t + 3 of the sum of squares (SUM-1): the elements of each are the thread's.
__device__ float4 square_sums(const float (&v)[kMine]) {
    float sums[4] = {};
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        sums[j % 4] = fused(v[j], v[j], sums[j % 4]);
    return {sums[0], sums[1], sums[2], sums[3]};
}

/// The halving tree of SUM-1 by the first warp, which has half of the lanes; lane 0 has the sum.
__device__ float sum_of_lanes(const float4& low, const float4& high) {
    float v[4] = {add(low.x, high.x), add(low.y, high.y), add(low.z, high.z), add(low.w, high.w)};
#pragma unroll
    for (int half = kWarpLanes / 2; half >= 1; half /= 2) {
#pragma unroll
        for (float& lane : v)
            lane = add(lane, __shfl_down_sync(kFullWarp, lane, half));
    }
    return add(add(v[0], v[2]), add(v[1], v[3]));
}

/// z of NRM-2 after the strides 1 and 2 to the rows of the square, from the quads of load_quads().
__device__ void store_quads(float (&v)[kMine], const float* w, int t, Shared& shared) {
    const auto* quads = reinterpret_cast<const float4*>(w) + t;
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
        const float4 by = quads[i * kThreads];
        float z[4] = {mul(by.x, v[4 * i]), mul(by.y, v[4 * i + 1]), mul(by.z, v[4 * i + 2]),
                      mul(by.w, v[4 * i + 3])};
        butterfly_own<1, 2>(z);
        constexpr int kRowsAtOnce = kThreads / kQuads;
        shared.rows[t / kQuads + i * kRowsAtOnce][t % kQuads] = {z[0], z[1], z[2], z[3]};
    }
}

/// Codes of the elements 64 j + t; inverse 0: all are 0. The rows of the square are read by now.
__device__ void store_codes(const float (&v)[kMine], float inverse, int t, std::uint8_t* codes) {
    const std::uint32_t mask = inverse == 0.0F ? 0U : ~0U;
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        codes[j * kThreads + t] = static_cast<std::uint8_t>(code_bits(v[j], inverse) & mask);
}

#endif

/// Norm (NRM-1 to NRM-3), R (ROT-3) and int8 (QNT-2) of rows of 4,096 elements.
///   in:  h [T, K], w [K] binary32, 16-byte alignment
///   out: x.row_q, x.row_scales; failed [T]
///   tile: a row a block of two warps. The elements are a square of 64 x 64: a thread has a row of
///         it for the strides up to 32, then a column; shared: 18 KB
///   floor: 5 K bytes a token, of the read speed
///   supported: K = 4096, one butterfly; x.floats null
__global__ void __launch_bounds__(kThreads, kBlocksAtOnce)
    norm_rows_sm90(const float* h, const float* w, float eps, ActivationsView x,
                   std::uint8_t* failed) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __shared__ Shared shared;
    const auto t = static_cast<int>(threadIdx.x);
    const int lane = t % kWarpLanes;
    const int warp = __shfl_sync(kFullWarp, t / kWarpLanes, 0);  // seen to be the same in all lanes
    const std::size_t token = blockIdx.x;
    let_next_kernel_start();
    wait_for_kernels_before();
    float v[kMine];
    load_quads(h + token * kSize, t, v);
    const float4 lanes = square_sums(v);
    if (warp != 0) shared.lanes[lane] = lanes;
    store_quads(v, w, t, shared);
    __syncthreads();
    if (warp == 0) {
        const float scale = norm_scale(sum_of_lanes(lanes, shared.lanes[lane]), kSize, eps);
        if (lane == 0) shared.scale = scale;
    }
    turn_row<4>(shared.rows[t]);
    __syncthreads();
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        v[j] = reinterpret_cast<const float*>(shared.rows[j])[t];
    butterfly_own<1, 16>(v);
    const std::uint32_t mine = __reduce_max_sync(kFullWarp, largest_bits(v));
    if (lane == 0) shared.largest[warp] = mine;
    butterfly_own<32, 32>(v);
    __syncthreads();
    const std::uint32_t largest = max(shared.largest[0], shared.largest[1]);
    const float scale = shared.scale;
    // A token that fails reads as zero: the quantizer of 0 (ERR-1).
    const bool ok = largest < kInfinityBits && is_norm_scale(scale);
    const Quantizer quantizer(ok ? largest : 0U);
    store_codes(v, quantizer.inverse, t, reinterpret_cast<std::uint8_t*>(shared.rows));
    __syncthreads();
    auto* to = reinterpret_cast<uint4*>(x.row_q + token * kSize) + t;
    const uint4* codes = reinterpret_cast<const uint4*>(shared.rows) + t;
#pragma unroll
    for (int i = 0; i < kSize / static_cast<int>(sizeof(uint4)) / kThreads; ++i)
        to[i * kThreads] = codes[i * kThreads];
    if (t != 0) return;
    x.row_scales[token] = ok ? mul(quantizer.scale, scale) : 0.0F;  // NRM-3
    if (!ok) failed[token] = 1;
#endif
}

}  // namespace

bool launch_norm_rows_sm90(const BatchView& batch, const float* h, const float* w, float eps,
                           const RotationView& rotation, const ActivationsView& x, Stream stream) {
    const bool only_e8 = x.row_q != nullptr && x.block_q == nullptr && x.floats == nullptr;
    if (!only_e8 || rotation.block != kSize || rotation.m != 1 || x.stride != kSize) return false;
    ETALON_ASSERT(batch.n_tokens >= 1 && x.n_cols == kSize && rotation.dct == nullptr);
    launch_dependent("norm_rows", norm_rows_sm90, dim3(static_cast<unsigned>(batch.n_tokens)),
                     kThreads, 0, stream, h, w, eps, x, batch.failed);
    return true;
}

}  // namespace etalon::backend::cuda

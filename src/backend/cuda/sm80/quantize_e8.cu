// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the input of E8 layers where the rotation is a butterfly over blocks of 1,024,
// 2,048 or 4,096 elements, or none: a thread keeps 16 elements in registers (spec NRM, SWI, ROT,
// QNT, ERR-1). Other shapes and forms: quantize.cu.
#include <cuda_runtime.h>

#include "backend/cuda/common/butterfly.cuh"
#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/quantize_rows.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kMine = 16;  // elements of a thread
constexpr int kMineBits = 4;
constexpr int kThreadsMax = 1024;
constexpr int kThreadsUsual = 256;
/// Blocks of so many threads on a multiprocessor, by registers: each of them waits much.
constexpr int blocks_usual(bool two_inputs, bool rotated) {
    return !rotated ? 8 : two_inputs ? 4 : 5;
}
constexpr int kWarpMine = kMine * kWarpLanes;

/// What one block of threads shares beside its elements.
struct Shared {
    float lanes[kLanes];
    float scale;
    std::uint32_t words[kWarpLanes];
    std::uint32_t cluster[kClusterMax];
};

/// Where element e lies in shared memory. Bits 2 to 4, which choose four banks, are mixed with
/// those behind, so that the lanes of a warp meet in no bank whichever four bits of e they do not
/// own. Bits do not carry: place_of(a | b) = place_of(a) ^ place_of(b) where a and b have none in
/// common.
__host__ __device__ constexpr int place_of(int e) {
    return e ^ (e >> 5 & 7) << 2 ^ (e >> 8 & 1) << 4;
}

/// A block of 2^kBits elements between its threads. The elements that thread t holds have in
///   low:    bits 0 to 3 each value, the others are those of t
///   middle: bits 4 to 7
///   high:   the four highest bits
template <int kBits>
struct Butterfly {
    static constexpr int kLow = 0;
    static constexpr int kMiddle = 4;
    static constexpr int kHigh = kBits - kMineBits;

    /// Element j of thread t when bits first..first + 3 are the thread's own.
    template <int kFirst>
    __device__ static int element(int t, int j) {
        constexpr int kMask = (1 << kFirst) - 1;
        return (t & ~kMask) << kMineBits | j << kFirst | (t & kMask);
    }

    /// ROT-3, the strides 2^kFrom to 2^kTo of elements whose bits from kFirst on are the thread's.
    template <int kFirst, int kFrom, int kTo>
    __device__ static void strides(float (&v)[kMine]) {
        butterfly_own<1 << (kFrom - kFirst), 1 << (kTo - kFirst)>(v);
    }

    /// Where element j of thread t lies.
    template <int kFirst>
    __device__ static int place(int base, int j) {
        constexpr int kMixed = 31;  // the other bits of j are not in the base
        const int own = place_of(j << kFirst);
        return (base ^ (own & kMixed)) + (own & ~kMixed);
    }
    template <int kFirst>
    __device__ static void store(const float (&v)[kMine], int t, float* z) {
        const int base = place_of(element<kFirst>(t, 0));
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            z[place<kFirst>(base, j)] = v[j];
    }
    template <int kFirst>
    __device__ static void load(float (&v)[kMine], int t, const float* z) {
        const int base = place_of(element<kFirst>(t, 0));
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[j] = z[place<kFirst>(base, j)];
    }

    /// The 16 successive elements of a thread, four at a time.
    __device__ static float4* low_quad(int t, int i, float* z) {
        return reinterpret_cast<float4*>(z + (place_of(kMine * t) ^ 4 * i));
    }

    /// From low to high; `z` is shared memory of the whole block of threads, all of whom run
    /// between() after the first of two meetings.
    template <typename Between>
    __device__ static void run(float (&v)[kMine], int t, float* z, const Between& between) {
        strides<kLow, 0, 3>(v);
#pragma unroll
        for (int i = 0; i < kMine / 4; ++i)
            *low_quad(t, i, z) = {v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]};
        __syncthreads();
        between();
        load<kMiddle>(v, t, z);
        strides<kMiddle, 4, 7>(v);
        store<kMiddle>(v, t, z);
        __syncthreads();
        load<kHigh>(v, t, z);
        strides<kHigh, 8, kBits - 1>(v);
    }
};

/// A lane's share of the warp's 512 elements: of each 128 the four behind those of the lane before.
__device__ void load_16(const float* of_warp, float (&v)[kMine]) {
    const auto* quads = reinterpret_cast<const float4*>(of_warp) + threadIdx.x % kWarpLanes;
#pragma unroll
    for (int i = 0; i < kMine / 4; ++i) {
        const float4 quad = quads[i * kWarpLanes];
        v[4 * i] = quad.x;
        v[4 * i + 1] = quad.y;
        v[4 * i + 2] = quad.z;
        v[4 * i + 3] = quad.w;
    }
}

/// The halving tree of SUM-1 over the lanes in shared memory, by one warp; lane 0 has it.
__device__ float sum_lanes_by_warp(const float* lanes) {
    constexpr int kPerLane = kLanes / kWarpLanes;
    const auto lane = static_cast<int>(threadIdx.x % kWarpLanes);
    float v[kPerLane];
#pragma unroll
    for (int i = 0; i < kPerLane; ++i)
        v[i] = lanes[i * kWarpLanes + lane];
#pragma unroll
    for (int half = kPerLane / 2; half >= 1; half /= 2) {
#pragma unroll
        for (int i = 0; i < half; ++i)
            v[i] = add(v[i], v[i + half]);
    }
    return sum_last_lanes(v[0]);
}

/// The largest value of a block; every thread gets it. `words` is used once.
__device__ std::uint32_t block_max_once(std::uint32_t value, std::uint32_t* words) {
    const unsigned lane = threadIdx.x % kWarpLanes;
    value = __reduce_max_sync(kFullWarp, value);
    if (lane == 0) words[threadIdx.x / kWarpLanes] = value;
    __syncthreads();
    return __reduce_max_sync(kFullWarp, lane < blockDim.x / kWarpLanes ? words[lane] : 0U);
}

/// x from a row: norm (NRM-1 to NRM-3), SwiGLU (SWI-1) or as it is; R (ROT-3); int8 (QNT-2).
///   in:  input.v, input.w binary32, 16-byte alignment
///   out: x.row_q, in another order where x is across, x.row_scales; with a norm x.floats where
///        there are some; failed [T]
///   tile: a token a cluster of n_cluster blocks, K / 16 threads in all; a butterfly over 2^kBits
///         elements stays in a block; shared: 4 K bytes / n_cluster
///   floor: 5 K bytes a token (swiglu: 9), of the read speed
///   supported: K a multiple of 2^kBits, K / 16 / n_cluster <= kThreads, a multiple of 32; kBits 0:
///              plain, no rotation, n_cluster 1; norm: the same and K >= 4096
template <Source kSource, int kBits, int kThreads>
__global__ void __launch_bounds__(kThreads, kThreads == kThreadsUsual
                                                ? blocks_usual(kSource != Source::plain, kBits != 0)
                                                : 1)
    quantize_e8_sm80(RowInput input, ActivationsView x, std::uint8_t* failed, int n_cluster) {
    static_assert(kBits != 0 || kSource == Source::plain);
    constexpr bool kAlone = kBits == 0 || kSource == Source::norm;  // no division, no cluster
    const int n_blocks = kAlone ? 1 : n_cluster;
    __shared__ Shared shared;
    extern __shared__ float4 dynamic[];
    using Turn = Butterfly<kBits>;
    constexpr int kSize = 1 << kBits;  // of a butterfly
    constexpr int kBlockThreads = kBits == 0 ? 1 : kSize / kMine;
    const int k = x.n_cols;
    const std::size_t token = blockIdx.x / static_cast<unsigned>(n_blocks);
    const int first = static_cast<int>(blockIdx.x) % n_blocks * (k / n_blocks);  // element
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int of_warp = thread / kWarpLanes * kWarpMine;
    // Phase 1: the elements, neighbours in neighbouring lanes.
    float v[kMine];
    float w[kSource == Source::plain ? 1 : kMine];
    if constexpr (kSource == Source::norm) load_16(input.w + of_warp, w);
    let_next_kernel_start();
    cluster_begin(n_blocks);
    wait_for_kernels_before();
    const float* row = input.v + token * k * (kSource == Source::swiglu ? 2 : 1) + first;
    load_16(row + of_warp, v);
    if constexpr (kSource == Source::swiglu) load_16(row + k + of_warp, w);
    if constexpr (kSource == Source::norm) {
        if (thread < kLanes) shared.lanes[thread] = square_sum_of_lane(row, k, thread);
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[j] = mul(w[j], v[j]);  // NRM-2
    }
    if constexpr (kSource == Source::swiglu) {
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[j] = swiglu(v[j], w[j]);
    }
    // Phase 2: the rotation of each block of elements. Threads of a warp change to 16 successive
    // ones each.
    auto* z = reinterpret_cast<float*>(dynamic);
    const int group = thread / kBlockThreads;
    const int t = thread % kBlockThreads;
    if constexpr (kBits != 0) {
        z += group << kBits;
        const int start = of_warp % kSize + 4 * lane;
#pragma unroll
        for (int i = 0; i < kMine / 4; ++i)
            *reinterpret_cast<float4*>(z + place_of(start + i * 4 * kWarpLanes)) = {
                v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]};
        __syncwarp();
#pragma unroll
        for (int i = 0; i < kMine / 4; ++i) {
            const float4 quad = *Turn::low_quad(t, i, z);
            v[4 * i] = quad.x;
            v[4 * i + 1] = quad.y;
            v[4 * i + 2] = quad.z;
            v[4 * i + 3] = quad.w;
        }
        Turn::run(v, t, z, [&] {
            if (kSource != Source::norm || thread >= kWarpLanes) return;
            const float scale = norm_scale(sum_lanes_by_warp(shared.lanes), k, input.eps);
            if (lane == 0) shared.scale = scale;
        });
    }
    // Phase 3: one scale for the row.
    std::uint32_t amax = 0;
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        amax = max(amax, magnitude_bits(v[j]));
    amax = cluster_max(block_max_once(amax, shared.words), n_blocks, shared.cluster);
    const float scale = kSource == Source::norm ? shared.scale : 1.0F;
    // A token that fails reads as zero: the quantizer of 0 (ERR-1).
    const bool ok = is_norm_scale(scale) && amax < kInfinityBits;
    const Quantizer quantizer(ok ? amax : 0U);
    const Codes codes(quantizer);
    std::int8_t* to = x.row_q + token * x.stride + first;
    if constexpr (kBits == 0) {
#pragma unroll
        for (int i = 0; i < kMine / 4; ++i) {
            const int at = of_warp + 4 * (i * kWarpLanes + lane);
            *reinterpret_cast<std::uint32_t*>(to + (x.across ? across_place(at) : at)) =
                codes.four(v[4 * i], v[4 * i + 1], v[4 * i + 2], v[4 * i + 3]);
        }
    } else {
        // No thread reads elements any more: their place holds the codes.
        auto* bytes = reinterpret_cast<std::uint8_t*>(dynamic) + (group << kBits);
        static_assert(kBits == 0 || Turn::kHigh >= 6, "64 successive elements are of 64 threads");
        const int place = x.across ? across_place(t) : t;
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            bytes[Turn::template element<Turn::kHigh>(place, j)] =
                static_cast<std::uint8_t>(codes.code(v[j]));
        __syncthreads();
        reinterpret_cast<uint4*>(to)[thread] = reinterpret_cast<const uint4*>(dynamic)[thread];
    }
    if constexpr (kSource == Source::norm) {
        if (x.floats != nullptr) {  // a router's input: z was lost in the rotation (NRM-2, NRM-3)
            load_16(input.w + of_warp, w);
            load_16(row + of_warp, v);
            auto* floats = reinterpret_cast<float4*>(x.floats + token * k + of_warp) + lane;
            const auto of = [&](int j) { return ok ? mul(mul(w[j], v[j]), scale) : 0.0F; };
#pragma unroll
            for (int i = 0; i < kMine / 4; ++i)
                floats[i * kWarpLanes] = {of(4 * i), of(4 * i + 1), of(4 * i + 2), of(4 * i + 3)};
        }
    }
    if (thread != 0 || first != 0) return;
    x.row_scales[token] = ok ? mul(quantizer.scale, scale) : 0.0F;  // NRM-3
    if (!ok) failed[token] = 1;
}

template <Source kSource, int kBits, int kThreads>
void launch_threads(const BatchView& batch, const RowInput& input, const ActivationsView& x,
                    int n_blocks, Stream stream) {
    const auto kernel = quantize_e8_sm80<kSource, kBits, kThreads>;
    const int n_elements = x.n_cols / n_blocks;
    const std::size_t bytes = kBits == 0 ? 0 : sizeof(float) * static_cast<std::size_t>(n_elements);
    constexpr std::size_t kUsual = 40 * 1024;
    if (bytes > kUsual) {
        let_have_shared("quantize_e8", kernel, static_cast<int>(bytes));
    }
    launch_cluster("quantize_e8", kernel, dim3(static_cast<unsigned>(batch.n_tokens * n_blocks)),
                   n_elements / kMine, n_blocks, bytes, stream, input, x, batch.failed, n_blocks);
}

template <Source kSource, int kBits>
void launch(const BatchView& batch, const RowInput& input, const ActivationsView& x, int n_blocks,
            Stream stream) {
    if (x.n_cols / n_blocks <= kMine * kThreadsUsual) {
        launch_threads<kSource, kBits, kThreadsUsual>(batch, input, x, n_blocks, stream);
    } else {
        launch_threads<kSource, kBits, kThreadsMax>(batch, input, x, n_blocks, stream);
    }
}

/// The choice of 2^kBits; false when the rotation is another one.
template <Source kSource>
bool launch_rotated(const BatchView& batch, const RowInput& input, const RotationView& rotation,
                    const ActivationsView& x, int n_blocks, Stream stream) {
    switch (rotation.block) {
        case 1024:
            launch<kSource, 10>(batch, input, x, n_blocks, stream);
            return true;
        case 2048:
            launch<kSource, 11>(batch, input, x, n_blocks, stream);
            return true;
        case 4096:
            launch<kSource, 12>(batch, input, x, n_blocks, stream);
            return true;
        default:
            return false;
    }
}

bool only_e8(const ActivationsView& x) {
    return x.row_q != nullptr && x.block_q == nullptr && x.floats == nullptr &&
           x.stride == x.n_cols;
}

/// What the norm fills: the rotated row, whose largest value is not finite where one of z is not,
/// and floats beside it.
bool e8_and_floats(ActivationsView x) {
    x.floats = nullptr;
    return only_e8(x);
}

/// Butterflies for which there is a kernel.
bool is_usual(const RotationView& rotation) {
    return rotation.dct == nullptr &&
           (rotation.block == 1024 || rotation.block == 2048 || rotation.block == 4096);
}

/// Blocks for a row where a butterfly stays in one; 0: too long.
int blocks_of_row(const RotationView& rotation, const ActivationsView& x, bool clusters) {
    const int n_blocks = clusters && rotation.m <= kClusterMax ? rotation.m : 1;
    return x.n_cols / n_blocks > kMine * kThreadsMax ? 0 : n_blocks;
}

}  // namespace

bool takes_norm_quantize_e8(const RotationView& rotation, const ActivationsView& x) {
    const int threads = x.n_cols / kMine;
    return e8_and_floats(x) && is_usual(rotation) && threads >= kLanes && threads <= kThreadsMax;
}

bool launch_norm_quantize_e8(const BatchView& batch, const float* h, const float* w, float eps,
                             const RotationView& rotation, const ActivationsView& x,
                             Stream stream) {
    if (!takes_norm_quantize_e8(rotation, x)) return false;
    return launch_rotated<Source::norm>(batch, {h, w, eps}, rotation, x, 1, stream);
}

bool launch_quantize_e8(const BatchView& batch, const float* v, const ActivationsView& x,
                        Stream stream) {
    if (!only_e8(x) || x.n_cols % (kMine * kWarpLanes) != 0 || x.n_cols > kMine * kThreadsMax)
        return false;
    launch<Source::plain, 0>(batch, {v, nullptr, 0.0F}, x, 1, stream);
    return true;
}

bool launch_swiglu_quantize_e8(const BatchView& batch, const float* gate_up,
                               const RotationView& rotation, const ActivationsView& x,
                               bool clusters, Stream stream) {
    const int n_blocks = blocks_of_row(rotation, x, clusters);
    if (!only_e8(x) || rotation.dct != nullptr || n_blocks == 0) return false;
    return launch_rotated<Source::swiglu>(batch, {gate_up, nullptr, 0.0F}, rotation, x, n_blocks,
                                          stream);
}

bool takes_rotate_quantize_e8(const RotationView& rotation, const ActivationsView& x,
                              bool clusters) {
    return only_e8(x) && is_usual(rotation) && blocks_of_row(rotation, x, clusters) > 0;
}

void launch_rotate_quantize_e8(const BatchView& batch, const float* s, const RotationView& rotation,
                               const ActivationsView& x, bool clusters, Stream stream) {
    ETALON_ASSERT(takes_rotate_quantize_e8(rotation, x, clusters));
    const int n_blocks = blocks_of_row(rotation, x, clusters);
    const bool launched =
        launch_rotated<Source::plain>(batch, {s, nullptr, 0.0F}, rotation, x, n_blocks, stream);
    ETALON_ASSERT(launched);
}

}  // namespace etalon::backend::cuda

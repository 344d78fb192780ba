// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the input of E8 layers where the rotation is a butterfly over blocks of 1,024,
// 2,048 or 4,096 elements, or none: a thread keeps 16 elements in registers (spec NRM, SWI, ROT,
// QNT, ERR-1). Other shapes and forms: quantize.cu.
#include <cuda_runtime.h>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kMine = 16;  // elements of a thread
constexpr int kMineBits = 4;
constexpr int kThreadsMax = 1024;
constexpr int kClusterMax = 8;  // every card of 9.0 runs clusters of so many blocks

enum class Source : std::uint8_t { norm, swiglu, plain };

struct RowInput {
    const float* v = nullptr;  // norm: h [T, K]; swiglu: gate and up [T, 2 K]; plain: [T, K]
    const float* w = nullptr;  // norm: [K]
    float eps = 0.0F;
};

/// What one block of threads shares beside its elements.
struct Shared {
    float lanes[kLanes];
    std::uint32_t words[kWarpLanes];
    std::uint32_t cluster[kClusterMax];
};

/// Where element e lies in shared memory: 4 words are left free behind 16, and 16 behind 256, so
/// that the lanes of a warp meet in no bank whichever four bits of e they do not own.
__host__ __device__ constexpr int place_of(int e) {
    return e + (e >> 4) * 4 + (e >> 8) * 16;
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
#pragma unroll
        for (int bit = kFrom; bit <= kTo; ++bit) {
            const int stride = 1 << (bit - kFirst);
#pragma unroll
            for (int i = 0; i < kMine; ++i) {
                if ((i & stride) != 0) continue;
                const float a = v[i];
                const float b = v[i + stride];
                v[i] = add(a, b);
                v[i + stride] = sub(a, b);
            }
        }
    }

    template <int kFirst>
    __device__ static void store(const float (&v)[kMine], int t, float* z) {
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            z[place_of(element<kFirst>(t, j))] = v[j];
    }
    template <int kFirst>
    __device__ static void load(float (&v)[kMine], int t, const float* z) {
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[j] = z[place_of(element<kFirst>(t, j))];
    }

    /// From low to high; `z` is shared memory of the whole block of threads.
    __device__ static void run(float (&v)[kMine], int t, float* z) {
        strides<kLow, 0, 3>(v);
        store<kLow>(v, t, z);
        __syncthreads();
        load<kMiddle>(v, t, z);
        strides<kMiddle, 4, 7>(v);
        store<kMiddle>(v, t, z);
        __syncthreads();
        load<kHigh>(v, t, z);
        strides<kHigh, 8, kBits - 1>(v);
        __syncthreads();
    }
};

__device__ void load_16(const float* from, float (&v)[kMine]) {
    const auto* quads = reinterpret_cast<const float4*>(from);
#pragma unroll
    for (int j = 0; j < kMine / 4; ++j) {
        const float4 quad = quads[j];
        v[4 * j] = quad.x;
        v[4 * j + 1] = quad.y;
        v[4 * j + 2] = quad.z;
        v[4 * j + 3] = quad.w;
    }
}

/// The largest value of the blocks of a cluster.
__device__ std::uint32_t cluster_max(std::uint32_t value, int n_blocks, std::uint32_t* words) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (n_blocks == 1) return value;
    cluster_wait();  // every block has started
    if (threadIdx.x < static_cast<unsigned>(n_blocks))
        store_at(words + cluster_rank(), value, threadIdx.x);
    cluster_sync();
    for (int i = 0; i < n_blocks; ++i)
        value = max(value, words[i]);
#endif
    return value;
}

/// Codes in the order of the elements to memory, 16 a thread; `codes` is shared.
template <int kFirst, int kBits>
__device__ void store_codes(const Quantizer& quantizer, const float (&v)[kMine], int t,
                            std::int8_t* codes, std::int8_t* to) {
    if constexpr (kFirst == 0) {
        (void)codes;
        std::uint32_t words[kMine / 4] = {};
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            words[j / 4] |= (static_cast<std::uint32_t>(quantizer.code(v[j])) & 0xFFU)
                            << (j % 4 * 8);
        reinterpret_cast<uint4*>(to)[t] = {words[0], words[1], words[2], words[3]};
    } else {
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            codes[Butterfly<kBits>::template element<kFirst>(t, j)] =
                static_cast<std::int8_t>(quantizer.code(v[j]));
        __syncthreads();
        reinterpret_cast<uint4*>(to)[t] = reinterpret_cast<const uint4*>(codes)[t];
    }
}

/// x from a row: norm (NRM-1 to NRM-3), SwiGLU (SWI-1) or as it is; R (ROT-3); int8 (QNT-2).
///   in:  input.v, input.w binary32, 16-byte alignment
///   out: x.row_q, x.row_scales; failed [T]
///   tile: a token a cluster of n_blocks blocks, K / 16 threads in all; a butterfly over 2^kBits
///         elements stays in a block; shared: 5.25 K bytes / n_blocks
///   floor: 5 K bytes a token (swiglu: 9), of the read speed
///   supported: K a multiple of 2^kBits, K / 16 / n_blocks <= 1024 threads; kBits 0: no rotation;
///              norm: n_blocks 1 and K >= 4096
template <Source kSource, int kBits>
__global__ void __launch_bounds__(kThreadsMax)
    quantize_e8_sm80(RowInput input, ActivationsView x, std::uint8_t* failed, int n_blocks) {
    __shared__ Shared shared;
    extern __shared__ float4 dynamic[];
    const int k = x.n_cols;
    const std::size_t t = blockIdx.x / static_cast<unsigned>(n_blocks);
    const int first = static_cast<int>(blockIdx.x) % n_blocks * (k / n_blocks);  // element
    const int thread = static_cast<int>(threadIdx.x);
    float v[kMine];
    float w[kMine];
    if constexpr (kSource == Source::norm) load_16(input.w + kMine * thread, w);
    let_next_kernel_start();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (n_blocks > 1) cluster_arrive();
#endif
    wait_for_kernels_before();
    // Phase 1: the elements, 16 successive ones a thread.
    const float* row = input.v + t * k * (kSource == Source::swiglu ? 2 : 1) + first;
    load_16(row + kMine * thread, v);
    float scale = 1.0F;
    if constexpr (kSource == Source::norm) {
        const float lane = thread < kLanes ? square_sum_of_lane(row, k, thread) : 0.0F;
        const float mean = divide(sum_lanes(lane, shared.lanes), static_cast<float>(k));
        scale = divide(1.0F, __fsqrt_rn(add(mean, input.eps)));  // NRM-1
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[j] = mul(w[j], v[j]);  // NRM-2
    }
    if constexpr (kSource == Source::swiglu) {
        load_16(row + k + kMine * thread, w);
#pragma unroll
        for (int j = 0; j < kMine; ++j)
            v[j] = swiglu(v[j], w[j]);
    }
    // Phase 2: the rotation of each block of elements.
    auto* z = reinterpret_cast<float*>(dynamic);
    constexpr int kBlockThreads = kBits == 0 ? 1 : (1 << kBits) / kMine;
    const int group = thread / kBlockThreads;
    if constexpr (kBits != 0)
        Butterfly<kBits>::run(v, thread % kBlockThreads, z + group * place_of(1 << kBits));
    // Phase 3: one scale for the row.
    std::uint32_t amax = 0;
#pragma unroll
    for (int j = 0; j < kMine; ++j)
        amax = max(amax, magnitude_bits(v[j]));
    amax = cluster_max(block_max(amax, shared.words), n_blocks, shared.cluster);
    const std::uint32_t bits = __float_as_uint(scale);
    // A token that fails reads as zero: the quantizer of 0 (ERR-1).
    const bool ok = amax < kInfinityBits && bits > 0 && bits < kInfinityBits;
    const Quantizer quantizer(ok ? amax : 0U);
    std::int8_t* to = x.row_q + t * x.stride + first;
    if constexpr (kBits == 0) {
        store_codes<0, 0>(quantizer, v, thread, nullptr, to);
    } else {
        store_codes<Butterfly<kBits>::kHigh, kBits>(
            quantizer, v, thread % kBlockThreads,
            reinterpret_cast<std::int8_t*>(dynamic) + (group << kBits), to + (group << kBits));
    }
    if (thread != 0 || first != 0) return;
    x.row_scales[t] = ok ? mul(quantizer.scale, scale) : 0.0F;  // NRM-3
    if (!ok) failed[t] = 1;
}

template <Source kSource, int kBits>
void launch(const BatchView& batch, const RowInput& input, const ActivationsView& x, int n_blocks,
            Stream stream) {
    const auto kernel = quantize_e8_sm80<kSource, kBits>;
    const int n_elements = x.n_cols / n_blocks;
    const std::size_t bytes =
        kBits == 0 ? 0
                   : sizeof(float) *
                         static_cast<std::size_t>((n_elements >> kBits) * place_of(1 << kBits));
    constexpr std::size_t kUsual = 40 * 1024;
    if (bytes > kUsual) {
        check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   static_cast<int>(bytes)),
              "shared memory of a row");
    }
    launch_cluster("quantize_e8", kernel, dim3(static_cast<unsigned>(batch.n_tokens * n_blocks)),
                   n_elements / kMine, n_blocks, bytes, stream, input, x, batch.failed, n_blocks);
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
    return x.block_q == nullptr && x.floats == nullptr && x.stride == x.n_cols;
}

}  // namespace

bool launch_norm_quantize_e8(const BatchView& batch, const float* h, const float* w, float eps,
                             const RotationView& rotation, const ActivationsView& x,
                             Stream stream) {
    const int threads = x.n_cols / kMine;
    if (!only_e8(x) || rotation.dct != nullptr || threads < kLanes || threads > kThreadsMax)
        return false;
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
    if (!only_e8(x) || rotation.dct != nullptr) return false;
    int n_blocks = 1;
    if (clusters && rotation.m <= kClusterMax) n_blocks = rotation.m;
    if (x.n_cols / n_blocks > kMine * kThreadsMax) return false;
    return launch_rotated<Source::swiglu>(batch, {gate_up, nullptr, 0.0F}, rotation, x, n_blocks,
                                          stream);
}

}  // namespace etalon::backend::cuda

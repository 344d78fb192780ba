// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the input of linear layers: norm, SwiGLU, rotation, quantisation (spec NRM,
// SWI, ROT, QNT, ERR-1).
#include <algorithm>
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreadsMax = 1024;
constexpr int kElementsPerThread = 4;  // rows that are shorter take fewer threads
constexpr int kBlock = exact::kBlock;
constexpr int kHalf = kBlock / 2;
constexpr int kDctMax = 15;
static_assert(kLanes <= kThreadsMax && kThreadsMax <= kWarpLanes * kWarpLanes);
static_assert(kBlock == kWarpLanes, "a warp quantises one block");

/// What one block of threads shares.
struct Shared {
    float lanes[kLanes];
    std::uint32_t words[kWarpLanes];
};

__device__ int thread_index() {
    return static_cast<int>(threadIdx.x);
}
__device__ int n_threads() {
    return static_cast<int>(blockDim.x);
}

/// use(i, load(i)) for each element of a row, the loads of some of them at once.
template <typename Load, typename Use>
__device__ void for_elements(int k, const Load& load, const Use& use) {
    constexpr int kAtOnce = 8;
    for (int begin = thread_index(); begin < k; begin += kAtOnce * n_threads()) {
        decltype(load(0)) values[kAtOnce];
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            if (begin + j * n_threads() < k) values[j] = load(begin + j * n_threads());
        }
#pragma unroll
        for (int j = 0; j < kAtOnce; ++j) {
            if (begin + j * n_threads() < k) use(begin + j * n_threads(), values[j]);
        }
    }
}

/// ROT-3, strides 1 to 16 inside a warp. The block is at least 64, so warps are whole.
__device__ void butterfly_in_warps(float* z, int k) {
    const int lane = thread_index() % kWarpLanes;
    for (int i = thread_index(); i < k; i += n_threads()) {
        float v = z[i];
        for (int stride = 1; stride < kWarpLanes; stride *= 2) {
            const float other = __shfl_xor_sync(kFullWarp, v, stride);
            v = (lane & stride) != 0 ? sub(other, v) : add(v, other);
        }
        z[i] = v;
    }
    __syncthreads();
}

/// ROT-3, one stride.
__device__ void butterfly_stride(float* z, int k, int stride) {
    for (int p = thread_index(); p < k / 2; p += n_threads()) {
        const int i = ((p & ~(stride - 1)) << 1) | (p & (stride - 1));
        const float a = z[i];
        const float b = z[i + stride];
        z[i] = add(a, b);
        z[i + stride] = sub(a, b);
    }
    __syncthreads();
}

/// ROT-3, `stride` and then 2 * stride.
__device__ void butterfly_two_strides(float* z, int k, int stride) {
    for (int p = thread_index(); p < k / 4; p += n_threads()) {
        const int i = ((p & ~(stride - 1)) << 2) | (p & (stride - 1));
        const float a = z[i];
        const float b = z[i + stride];
        const float c = z[i + 2 * stride];
        const float d = z[i + 3 * stride];
        const float ab = add(a, b);
        const float a_b = sub(a, b);
        const float cd = add(c, d);
        const float c_d = sub(c, d);
        z[i] = add(ab, cd);
        z[i + stride] = add(a_b, c_d);
        z[i + 2 * stride] = sub(ab, cd);
        z[i + 3 * stride] = sub(a_b, c_d);
    }
    __syncthreads();
}

/// ROT-4: a thread owns a position of all blocks.
__device__ void dct_across_blocks(float* z, const RotationView& rotation) {
    const int m = rotation.m;
    for (int p = thread_index(); p < rotation.block; p += n_threads()) {
        float x[kDctMax];
#pragma unroll
        for (int j = 0; j < kDctMax; ++j) {
            if (j < m) x[j] = z[j * rotation.block + p];
        }
        for (int i = 0; i < m; ++i) {
            float sum = 0.0F;
#pragma unroll
            for (int j = 0; j < kDctMax; ++j) {
                if (j < m) sum = fused(rotation.dct[i * m + j], x[j], sum);
            }
            z[i * rotation.block + p] = sum;
        }
    }
    __syncthreads();
}

__device__ void rotate(float* z, int k, const RotationView& rotation) {
    if (rotation.block >= 2 * kWarpLanes) {
        butterfly_in_warps(z, k);
        int stride = kWarpLanes;
        for (; 2 * stride < rotation.block; stride *= 4)
            butterfly_two_strides(z, k, stride);
        if (stride < rotation.block) butterfly_stride(z, k, stride);
    }
    if (rotation.dct != nullptr) dct_across_blocks(z, rotation);
}

/// The floating form; true when an element of z is not finite.
__device__ bool fill_floats(const float* z, float scale, float* out, int k) {
    bool bad = false;
    for (int i = thread_index(); i < k; i += n_threads()) {
        bad = bad || magnitude_bits(z[i]) >= kInfinityBits;
        out[i] = mul(z[i], scale);  // NRM-3
    }
    return bad;
}

/// Blocks of 32, a warp each (QNT-3); true when an element is not finite.
__device__ bool fill_blocks(const float* z, float scale, const ActivationsView& x, std::size_t t) {
    const int n_blocks = x.n_cols / kBlock;
    const int lane = thread_index() % kWarpLanes;
    bool bad = false;
    for (int b = thread_index() / kWarpLanes; b < n_blocks; b += n_threads() / kWarpLanes) {
        const float v = z[b * kBlock + lane];
        const Quantizer quantizer(__reduce_max_sync(kFullWarp, magnitude_bits(v)));
        bad = bad || !quantizer.finite;
        const int code = quantizer.code(v);
        x.block_q[t * x.stride + b * kBlock + lane] = static_cast<std::int8_t>(code);
        int sum = code;
        for (int half = kHalf / 2; half >= 1; half /= 2)
            sum += __shfl_xor_sync(kFullWarp, sum, half);
        const std::size_t block = t * n_blocks + b;
        if (lane % kHalf == 0)
            x.half_sums[2 * block + lane / kHalf] = static_cast<std::int16_t>(sum);
        if (lane == 0) x.block_scales[block] = mul(quantizer.scale, scale);  // NRM-3
    }
    return bad;
}

/// One scale for the row (QNT-2), four codes a thread; true when an element is not finite.
__device__ bool fill_row(const float* z, float scale, const ActivationsView& x, std::size_t t,
                         Shared& shared) {
    std::uint32_t amax = 0;
    for (int i = thread_index(); i < x.n_cols; i += n_threads())
        amax = max(amax, magnitude_bits(z[i]));
    const Quantizer quantizer(block_max(amax, shared.words));
    auto* words = reinterpret_cast<std::uint32_t*>(x.row_q + t * x.stride);
    for (int i = 4 * thread_index(); i < x.n_cols; i += 4 * n_threads()) {
        std::uint32_t word = 0;
        for (int j = 0; j < 4 && i + j < x.n_cols; ++j)
            word |= (static_cast<std::uint32_t>(quantizer.code(z[i + j])) & 0xFFU) << (8 * j);
        words[i / 4] = word;
    }
    if (thread_index() == 0) x.row_scales[t] = mul(quantizer.scale, scale);  // NRM-3
    return !quantizer.finite;
}

template <typename T>
__device__ void clear(T* values, std::size_t t, std::size_t n) {
    if (values == nullptr) return;
    for (std::size_t i = threadIdx.x; i < n; i += blockDim.x)
        values[t * n + i] = T{};
}

/// ERR-1: a token that failed reads as zero from here on.
__device__ void clear_token(const ActivationsView& x, std::size_t t) {
    const auto k = static_cast<std::size_t>(x.n_cols);
    clear(x.row_q, t, static_cast<std::size_t>(x.stride));
    clear(x.row_scales, t, 1);
    clear(x.block_q, t, static_cast<std::size_t>(x.stride));
    clear(x.block_scales, t, k / kBlock);
    clear(x.half_sums, t, k / kHalf);
    clear(x.floats, t, k);
}

/// Fills the forms of the block's token from z[n_cols], which is lost; scales are multiplied with
/// `scale`, and a token whose `valid` is false has failed. All threads have written their z.
__device__ void fill_token(float* z, float scale, bool valid, const RotationView& rotation,
                           const ActivationsView& x, std::uint8_t* failed, Shared& shared) {
    const std::size_t t = blockIdx.x;
    bool bad = !valid;
    __syncthreads();
    if (x.floats != nullptr) bad = fill_floats(z, scale, x.floats + t * x.n_cols, x.n_cols) || bad;
    if (x.block_q != nullptr) bad = fill_blocks(z, scale, x, t) || bad;
    if (x.row_q != nullptr) {
        __syncthreads();
        rotate(z, x.n_cols, rotation);
        bad = fill_row(z, scale, x, t, shared) || bad;
    }
    if (__syncthreads_or(bad ? 1 : 0) == 0) return;
    clear_token(x, t);
    if (thread_index() == 0) failed[t] = 1;
}

/// Where a token's row of z lies: shared memory, or `scratch` where that is too small.
__device__ float* row_of(float* scratch, int k) {
    extern __shared__ float dynamic_row[];
    return scratch == nullptr ? dynamic_row : scratch + std::size_t{blockIdx.x} * k;
}

/// scale = 1 / sqrt(sum h^2 / K + eps), z = w h, x = quantised R(z), a = (amax / 127) scale
/// (NRM-1 to NRM-3, ROT-3, ROT-4, QNT).
///   in:  h binary32 [T, K]; w binary32 [K]
///   out: x, the forms that it has; failed [T]
///   tile: one token a block of 8 to 32 warps; shared: 4 K bytes and 1.2 KB
///   floor: 4 K bytes read and 1 to 5 K written a token, of the read speed
///   supported: any K
__global__ void __launch_bounds__(kThreadsMax)
    norm_quantize_sm80(const float* h, const float* w, float eps, RotationView rotation,
                       ActivationsView x, std::uint8_t* failed, float* scratch) {
    __shared__ Shared shared;
    const int k = x.n_cols;
    float* z = row_of(scratch, k);
    let_next_kernel_start();
    wait_for_kernels_before();
    const float* row = h + std::size_t{blockIdx.x} * k;
    for_elements(
        k,
        [&](int i) {
            return float2{row[i], w[i]};
        },
        [&](int i, float2 v) { z[i] = mul(v.y, v.x); });  // NRM-2
    const float lane = thread_index() < kLanes ? square_sum_of_lane(row, k, thread_index()) : 0.0F;
    const float scale = norm_scale(sum_lanes(lane, shared.lanes), k, eps);
    fill_token(z, scale, is_norm_scale(scale), rotation, x, failed, shared);
}

/// x = quantised v (QNT-1 to QNT-4). As norm_quantize_sm80, without norm and rotation.
__global__ void __launch_bounds__(kThreadsMax)
    quantize_sm80(const float* v, ActivationsView x, std::uint8_t* failed, float* scratch) {
    __shared__ Shared shared;
    const int k = x.n_cols;
    float* z = row_of(scratch, k);
    let_next_kernel_start();
    wait_for_kernels_before();
    const float* row = v + std::size_t{blockIdx.x} * k;
    for_elements(
        k, [&](int i) { return row[i]; }, [&](int i, float value) { z[i] = value; });
    fill_token(z, 1.0F, true, RotationView{}, x, failed, shared);
}

/// x = quantised R(swiglu(gate, up)) (SWI-1, ROT-3, ROT-4, QNT).
///   in:  gate_up binary32 [T, 2 K], gate first
///   otherwise as norm_quantize_sm80
__global__ void __launch_bounds__(kThreadsMax)
    swiglu_quantize_sm80(const float* gate_up, RotationView rotation, ActivationsView x,
                         std::uint8_t* failed, float* scratch) {
    __shared__ Shared shared;
    const int k = x.n_cols;
    float* z = row_of(scratch, k);
    let_next_kernel_start();
    wait_for_kernels_before();
    const float* gate = gate_up + std::size_t{blockIdx.x} * 2 * k;
    for_elements(
        k,
        [&](int i) {
            return float2{gate[i], gate[k + i]};
        },
        [&](int i, float2 v) { z[i] = swiglu(v.x, v.y); });
    fill_token(z, 1.0F, true, rotation, x, failed, shared);
}

/// Dynamic shared bytes of a row; more than the usual 48 KB has to be allowed.
template <typename Kernel>
std::size_t allow_row(Kernel kernel, int k, const float* scratch) {
    constexpr std::size_t kUsual = 40 * 1024;
    const std::size_t bytes = scratch == nullptr ? sizeof(float) * static_cast<std::size_t>(k) : 0;
    if (bytes > kUsual) {
        let_have_shared("quantize", kernel, static_cast<int>(bytes));
    }
    return bytes;
}

/// Whole warps, at least one for each lane of SUM-1.
int threads_of(const ActivationsView& x) {
    const int wanted = x.n_cols / kElementsPerThread / kWarpLanes * kWarpLanes;
    return std::clamp(wanted, kLanes, kThreadsMax);
}

dim3 tokens_of(const BatchView& batch) {
    return dim3(static_cast<unsigned>(batch.n_tokens));
}

}  // namespace

std::size_t row_shared_bytes_max() {
    int device = 0;
    int bytes = 0;
    check(cudaGetDevice(&device), "current device");
    check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
          "shared memory of a block");
    return static_cast<std::size_t>(bytes) - sizeof(Shared);
}

void launch_norm_quantize(const BatchView& batch, const float* h, const float* w, float eps,
                          const RotationView& rotation, const ActivationsView& x, float* scratch,
                          bool clusters, Stream stream) {
    if (launch_norm_quantize_e8(batch, h, w, eps, rotation, x, stream) ||
        launch_norm_quantize_blocks(batch, h, w, eps, x, clusters, stream))
        return;
    const std::size_t bytes = allow_row(norm_quantize_sm80, x.n_cols, scratch);
    launch_dependent("norm_quantize", norm_quantize_sm80, tokens_of(batch), threads_of(x), bytes,
                     stream, h, w, eps, rotation, x, batch.failed, scratch);
}

void launch_quantize(const BatchView& batch, const float* v, const ActivationsView& x,
                     float* scratch, bool clusters, Stream stream) {
    if (launch_quantize_e8(batch, v, x, stream) ||
        launch_quantize_blocks(batch, v, x, clusters, stream))
        return;
    const std::size_t bytes = allow_row(quantize_sm80, x.n_cols, scratch);
    launch_dependent("quantize", quantize_sm80, tokens_of(batch), threads_of(x), bytes, stream, v,
                     x, batch.failed, scratch);
}

void launch_swiglu_quantize(const BatchView& batch, const float* gate_up,
                            const RotationView& rotation, const ActivationsView& x, float* scratch,
                            bool clusters, Stream stream) {
    if (launch_swiglu_quantize_e8(batch, gate_up, rotation, x, clusters, stream) ||
        launch_swiglu_quantize_blocks(batch, gate_up, x, clusters, stream))
        return;
    const std::size_t bytes = allow_row(swiglu_quantize_sm80, x.n_cols, scratch);
    launch_dependent("swiglu_quantize", swiglu_quantize_sm80, tokens_of(batch), threads_of(x),
                     bytes, stream, gate_up, rotation, x, batch.failed, scratch);
}

}  // namespace etalon::backend::cuda

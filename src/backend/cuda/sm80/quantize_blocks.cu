// SPDX-License-Identifier: Apache-2.0
// Rows of floats to the input of GGUF formats: blocks of 32 elements with a scale each (spec NRM,
// SWI, QNT-3, QNT-4, ERR-1). A row is spread over warps, and over the blocks of a cluster where
// tokens are few. Other forms: quantize.cu.
#include <algorithm>
#include <cuda_runtime.h>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/quantize_rows.cuh"

namespace etalon::backend::cuda {

namespace {

constexpr int kBlock = exact::kBlock;
constexpr int kHalf = kBlock / 2;
constexpr int kMine = 4;                    // successive elements of a thread
constexpr int kChunk = kMine * kWarpLanes;  // of a warp
constexpr int kBlockThreads = kBlock / kMine;
constexpr int kHalfThreads = kHalf / kMine;
constexpr int kThreadBlocksMax = 512;  // where a row has several

/// SwiGLU takes the longest.
template <Source kSource>
constexpr int kThreads = kSource == Source::swiglu ? 512 : 256;

struct Shared {
    float lanes[kLanes];
    std::uint32_t words[kClusterMax];
};

/// The places of a thread in a row: kMine elements every `step`. Its warp has as many turns as its
/// first thread.
struct Places {
    int first;
    int step;

    template <int kWarps>
    __device__ static Places of(int rank, int n_cluster) {
        const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
        const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
        return {(rank * kWarps + warp) * kChunk + lane * kMine, n_cluster * kWarps * kChunk};
    }
    /// use(e, whether e is one of k) for each.
    template <typename Use>
    __device__ void each(int k, const Use& use) const {
        const int of_lane = static_cast<int>(threadIdx.x) % kWarpLanes * kMine;
#pragma unroll 1
        for (int e = first; e - of_lane < k; e += step)
            use(e, e < k);
    }
};

/// x from a row: norm (NRM-1 to NRM-3), SwiGLU (SWI-1) or as it is; int8 in blocks of 32 (QNT-3).
///   in:  input.v, input.w binary32, 16-byte alignment
///   out: x.block_q, x.block_scales, x.half_sums; failed [T]
///   tile: a token a cluster of n_cluster blocks; a warp has 128 elements at once
///   floor: 5.3 K bytes a token (swiglu: 9.3), of the read speed
///   supported: K a multiple of 32
template <Source kSource>
__global__ void __launch_bounds__(kThreads<kSource>)
    quantize_blocks_sm80(RowInput input, ActivationsView x, std::uint8_t* failed, int n_cluster) {
    static_assert(kThreads<kSource> >= kLanes, "SUM-1");
    __shared__ Shared shared;
    const int k = x.n_cols;
    const std::size_t token = blockIdx.x / static_cast<unsigned>(n_cluster);
    const int rank = static_cast<int>(blockIdx.x) % n_cluster;
    const auto places = Places::of<kThreads<kSource> / kWarpLanes>(rank, n_cluster);
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const auto load = [](const float* from, bool is_there) {
        return is_there ? *reinterpret_cast<const float4*>(from) : float4{};
    };
    float4 first_w = {};  // no kernel writes it: here it comes while the one before runs
    if constexpr (kSource == Source::norm) first_w = load(input.w + places.first, places.first < k);
    let_next_kernel_start();
    cluster_begin(n_cluster);
    wait_for_kernels_before();
    const float* row = input.v + token * k * (kSource == Source::swiglu ? 2 : 1);
    float scale = 1.0F;
    bool bad = false;
    if constexpr (kSource == Source::norm) {
        const int thread = static_cast<int>(threadIdx.x);
        const float of_lane = thread < kLanes ? square_sum_of_lane(row, k, thread) : 0.0F;
        scale = norm_scale(sum_lanes(of_lane, shared.lanes), k, input.eps);
        bad = !is_norm_scale(scale);
    }
    std::int8_t* codes_of_row = x.block_q + token * x.stride;
    const std::size_t first_block = token * static_cast<std::size_t>(k / kBlock);
    const auto store = [&](int e, std::uint32_t codes, int sum, float block_scale) {
        const std::size_t block = first_block + static_cast<std::size_t>(e / kBlock);
        *reinterpret_cast<std::uint32_t*>(codes_of_row + e) = codes;
        if (lane % kHalfThreads == 0)
            x.half_sums[2 * block + e % kBlock / kHalf] = static_cast<std::int16_t>(sum);
        if (lane % kBlockThreads == 0) x.block_scales[block] = block_scale;
    };
    places.each(k, [&](int e, bool mine) {
        float4 v = load(row + e, mine);
        if constexpr (kSource == Source::norm) {
            const float4 w = e == places.first ? first_w : load(input.w + e, mine);
            v = {mul(w.x, v.x), mul(w.y, v.y), mul(w.z, v.z), mul(w.w, v.w)};  // NRM-2
        }
        if constexpr (kSource == Source::swiglu) {
            const float4 up = load(row + k + e, mine);
            v = {swiglu(v.x, up.x), swiglu(v.y, up.y), swiglu(v.z, up.z), swiglu(v.w, up.w)};
        }
        std::uint32_t amax = max(max(magnitude_bits(v.x), magnitude_bits(v.y)),
                                 max(magnitude_bits(v.z), magnitude_bits(v.w)));
#pragma unroll
        for (int other = 1; other < kBlockThreads; other *= 2)
            amax = max(amax, __shfl_xor_sync(kFullWarp, amax, other));
        const Quantizer quantizer(amax);
        bad = bad || !quantizer.finite;
        const std::uint32_t codes = Codes(quantizer).four(v.x, v.y, v.z, v.w);
        int sum = __dp4a(static_cast<int>(codes), 0x01010101, 0);
#pragma unroll
        for (int other = 1; other < kHalfThreads; other *= 2)
            sum += __shfl_xor_sync(kFullWarp, sum, other);
        if (mine) store(e, codes, sum, mul(quantizer.scale, scale));  // NRM-3
    });
    const std::uint32_t of_block = __syncthreads_or(bad ? 1 : 0) != 0 ? 1 : 0;
    if (cluster_max(of_block, n_cluster, shared.words) == 0) return;
    // A token that fails reads as zero (ERR-1).
    places.each(k, [&](int e, bool mine) {
        if (mine) store(e, 0, 0, 0.0F);
    });
    if (rank == 0 && threadIdx.x == 0) failed[token] = 1;
}

/// Blocks of threads for a row: warps enough for all of it, until the card has its fill.
int blocks_of_row(int n_tokens, int k, int n_threads, bool clusters) {
    if (!clusters) return 1;
    const int of_block = n_threads / kWarpLanes * kChunk;
    int n = std::min((k + of_block - 1) / of_block, kClusterMax);
    while (n > 1 && n * n_tokens > kThreadBlocksMax)
        n = (n + 1) / 2;
    return n;
}

template <Source kSource>
bool launch(const BatchView& batch, const RowInput& input, const ActivationsView& x, bool clusters,
            Stream stream) {
    if (x.block_q == nullptr || x.row_q != nullptr || x.floats != nullptr) return false;
    const int n_cluster = blocks_of_row(batch.n_tokens, x.n_cols, kThreads<kSource>, clusters);
    launch_cluster("quantize_blocks", quantize_blocks_sm80<kSource>,
                   dim3(static_cast<unsigned>(batch.n_tokens * n_cluster)), kThreads<kSource>,
                   n_cluster, 0, stream, input, x, batch.failed, n_cluster);
    return true;
}

}  // namespace

bool launch_norm_quantize_blocks(const BatchView& batch, const float* h, const float* w, float eps,
                                 const ActivationsView& x, bool clusters, Stream stream) {
    return launch<Source::norm>(batch, {h, w, eps}, x, clusters, stream);
}

bool launch_quantize_blocks(const BatchView& batch, const float* v, const ActivationsView& x,
                            bool clusters, Stream stream) {
    return launch<Source::plain>(batch, {v, nullptr, 0.0F}, x, clusters, stream);
}

bool launch_swiglu_quantize_blocks(const BatchView& batch, const float* gate_up,
                                   const ActivationsView& x, bool clusters, Stream stream) {
    return launch<Source::swiglu>(batch, {gate_up, nullptr, 0.0F}, x, clusters, stream);
}

}  // namespace etalon::backend::cuda

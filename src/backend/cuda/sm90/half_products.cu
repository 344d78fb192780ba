// SPDX-License-Identifier: Apache-2.0
// A trial of the tensor cores: whether they sum products of binary16 as attention_tile.cu needs it.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/wgmma.cuh"
#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm90/half_values.cuh"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kGroupThreads = 128;  // a warpgroup
constexpr int kTrialRounds = 96;
[[maybe_unused]] constexpr int kTrialDims = 64;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// W and a code of the values for the trial of the tensor cores: rounds with large sums that
/// cancel, in both orders, with small terms among them, and with zeros.
__device__ inline std::uint32_t trial_bits(std::uint32_t round, std::uint32_t i, std::uint32_t k) {
    std::uint32_t x = round * 0x9E3779B9U ^ i * 0x85EBCA6BU ^ k * 0xC2B2AE35U;
    x = (x ^ x >> 15) * 0x2C1B3C6DU;
    x = (x ^ x >> 12) * 0x297A2D39U;
    return x ^ x >> 15;
}
__device__ inline int trial_weight(int round, int row, int slot) {
    const std::uint32_t bits = trial_bits(round, row, slot);
    switch (round % 6) {
        case 0:
            return static_cast<int>(bits % 2049);
        case 1:
            return 2048;
        case 2:
            return bits % 4 == 0 ? 2048 : bits % 4 == 1 ? 2047 : bits % 4 == 2 ? 1 : 0;
        case 3:
            return slot < 60 ? 2048 : static_cast<int>(bits % 2);
        case 4:
            return slot >= 4 ? 2048 : static_cast<int>(bits % 2);
        default:
            return bits % 8 == 0 ? static_cast<int>(bits >> 8) % 2049 : 0;
    }
}
__device__ inline int trial_code(int round, int dim, int slot) {
    const std::uint32_t bits = trial_bits(round + 1000, dim, slot);
    switch (round % 6) {
        case 1:
            return (slot < 32) == (dim % 2 == 0) ? 127 : -127;
        case 2:
            return bits % 4 == 0 ? 127 : bits % 4 == 1 ? -127 : bits % 4 == 2 ? 1 : -1;
        case 3:
        case 4: {
            const bool large = round % 6 == 3 ? slot < 60 : slot >= 4;
            if (!large) return bits % 2 == 0 ? 1 : -1;
            return dim % 3 == 0 && slot % 8 == 1 ? -127 : dim % 3 == 1 ? -127 : 127;
        }
        default:
            return static_cast<int>(bits % 255) - 127;
    }
}

#endif

/// Counts sums of products of binary16 that are not the integers they stand for.
///   out: wrong, added to
///   tile: a warpgroup a round: 64 queries, 64 slots, 64 elements
__global__ void __launch_bounds__(kGroupThreads) half_products_sm90(std::uint32_t* wrong) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __shared__ alignas(128) int4 values[kPageSlots / 8 * kTrialDims];
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int round = static_cast<int>(blockIdx.x);
    for (int i = thread; i < kPageSlots / 8 * kTrialDims; i += kGroupThreads) {
        std::uint32_t codes[2] = {};
        for (int k = 0; k < 8; ++k)
            codes[k / 4] |= static_cast<std::uint32_t>(
                                trial_code(round, i % kTrialDims, i / kTrialDims * 8 + k) & 0xFF)
                            << k % 4 * 8;
        const uint2 low = halves_of(codes[0]);
        const uint2 high = halves_of(codes[1]);
        values[i] = {static_cast<int>(low.x), static_cast<int>(low.y), static_cast<int>(high.x),
                     static_cast<int>(high.y)};
    }
    shared_proxy_fence();
    __syncthreads();
    const int first_row = thread / kWarpLanes * 16 + lane / 4;
    std::uint32_t weights[4][4];
#pragma unroll
    for (int g = 0; g < 4; ++g) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int row = first_row + i % 2 * 8;
            const int slot = 16 * g + i / 2 * 8 + lane % 4 * 2;
            weights[g][i] = static_cast<std::uint32_t>(trial_weight(round, row, slot)) |
                            static_cast<std::uint32_t>(trial_weight(round, row, slot + 1)) << 16;
        }
    }
    float a[kTrialDims / 2];
    const std::uint32_t half = wgmma_block(shared_address(values), kTrialDims * 16);
    wgmma_fence();
#pragma unroll
    for (int g = 0; g < 4; ++g)
        wgmma_f16(a, weights[g], wgmma_blocks(half + 2 * g * kTrialDims), g > 0 ? 1 : 0);
    wgmma_commit();
    wgmma_wait<0>();
    std::uint32_t n_wrong = 0;
#pragma unroll
    for (int i = 0; i < kTrialDims / 2; ++i) {
        const int row = first_row + i / 2 % 2 * 8;
        const int dim = i / 4 * 8 + lane % 4 * 2 + i % 2;
        int sum = 0;
#pragma unroll 1
        for (int slot = 0; slot < kPageSlots; ++slot)
            sum += trial_weight(round, row, slot) * trial_code(round, dim, slot);
        const float right = mul(static_cast<float>(sum), 1.0F / 0x1p24F);
        if (__float_as_uint(right) != __float_as_uint(a[i])) ++n_wrong;
    }
    if (n_wrong != 0) atomicAdd(wrong, n_wrong);
#endif
}

}  // namespace

void launch_half_products_sm90(std::uint32_t* wrong, Stream stream) {
    half_products_sm90<<<kTrialRounds, kGroupThreads, 0, stream>>>(wrong);
    check_launch("half_products");
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// What quantize_e8.cu and quantize_blocks.cu share.
#pragma once

#include <cstdint>

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/ptx/barrier.cuh"

namespace etalon::backend::cuda {

inline constexpr int kClusterMax = 8;  // every card of 9.0 runs clusters of so many blocks

enum class Source : std::uint8_t { norm, swiglu, plain };

struct RowInput {
    const float* v = nullptr;  // norm: h [T, K]; swiglu: gate and up [T, 2 K]; plain: [T, K]
    const float* w = nullptr;  // norm: [K]
    float eps = 0.0F;
};

/// Ahead of cluster_max(): this block has started.
__device__ inline void cluster_begin([[maybe_unused]] int n_blocks) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (n_blocks > 1) cluster_arrive();
#endif
}

/// The largest value of the blocks of a cluster, each of which has called cluster_begin(); `words`
/// has kClusterMax.
__device__ inline std::uint32_t cluster_max(std::uint32_t value, [[maybe_unused]] int n_blocks,
                                            [[maybe_unused]] std::uint32_t* words) {
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

/// The codes of elements (Quantizer::code): the lowest byte of each word.
struct Codes {
    float inverse;
    std::uint32_t mask;

    __device__ explicit Codes(const Quantizer& quantizer)
        : inverse(quantizer.inverse), mask(quantizer.inverse == 0.0F ? 0U : ~0U) {}

    __device__ std::uint32_t code(float x) const { return code_bits(x, inverse) & mask; }
    __device__ std::uint32_t four(float a, float b, float c, float d) const {
        return low_bytes(code(a), code(b), code(c), code(d));
    }
};

}  // namespace etalon::backend::cuda

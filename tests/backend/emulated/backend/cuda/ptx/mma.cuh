// SPDX-License-Identifier: Apache-2.0
// Products of a warp as src/backend/cuda/ptx/mma.cuh describes them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "backend/emulated/intrinsics.h"

namespace etalon::backend::cuda {

/// The words of a thread, a0 to a3 and b0, b1; kHalves of 16 columns of a.
template <int kHalves>
void multiply_warp(int (&c)[4], const std::array<unsigned, 6>& words, const int (&from)[4]) {
    emulated::Warp& warp = emulated::warp();
    const int lane = emulated::lane();
    warp.words[static_cast<std::size_t>(lane)] = words;
    emulated::meet_warp();
    int sums[4];
    for (int i = 0; i < 4; ++i) {
        const int row = lane / 4;
        const int column = lane % 4 * 2 + i % 2;
        sums[i] = from[i];
        for (int half = 0; half < kHalves; ++half) {
            for (int quad = 0; quad < 4; ++quad) {
                const unsigned a = warp.words[static_cast<std::size_t>(row * 4 + quad)]
                                             [static_cast<std::size_t>(2 * half + i / 2)];
                const unsigned b = warp.words[static_cast<std::size_t>(column * 4 + quad)]
                                             [static_cast<std::size_t>(4 + half)];
                sums[i] = __dp4a(static_cast<int>(a), static_cast<int>(b), sums[i]);
            }
        }
    }
    std::memcpy(c, sums, sizeof(sums));
    emulated::meet_warp();
}

template <int kMatrices>
void load_some_matrices(std::uint32_t (&words)[kMatrices], const void* row) {
    emulated::Warp& warp = emulated::warp();
    const int lane = emulated::lane();
    warp.addresses[static_cast<std::size_t>(lane)] = row;
    emulated::meet_warp();
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
        const void* from = warp.addresses[static_cast<std::size_t>(8 * matrix + lane / 4)];
        std::memcpy(&words[matrix], static_cast<const char*>(from) + lane % 4 * 4, 4);
    }
    emulated::meet_warp();
}

inline void load_matrices(std::uint32_t (&words)[4], const void* row) {
    load_some_matrices(words, row);
}

inline void load_two_matrices(std::uint32_t (&words)[2], const void* row) {
    load_some_matrices(words, row);
}

inline void mma_i8_16x8x32(int (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                           std::uint32_t a3, std::uint32_t b0, std::uint32_t b1,
                           const int (&from)[4]) {
    multiply_warp<2>(c, {a0, a1, a2, a3, b0, b1}, from);
}
inline void mma_i8_16x8x32_first(int (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t a2,
                                 std::uint32_t a3, std::uint32_t b0, std::uint32_t b1) {
    multiply_warp<2>(c, {a0, a1, a2, a3, b0, b1}, {0, 0, 0, 0});
}
inline void mma_i8_16x8x16(int (&c)[4], std::uint32_t a0, std::uint32_t a1, std::uint32_t b0,
                           const int (&from)[4]) {
    multiply_warp<1>(c, {a0, a1, 0, 0, b0, 0}, from);
}
inline void mma_i8_16x8x16_first(int (&c)[4], std::uint32_t a0, std::uint32_t a1,
                                 std::uint32_t b0) {
    multiply_warp<1>(c, {a0, a1, 0, 0, b0, 0}, {0, 0, 0, 0});
}

}  // namespace etalon::backend::cuda

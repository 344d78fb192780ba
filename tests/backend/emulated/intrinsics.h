// SPDX-License-Identifier: Apache-2.0
// Functions that the compiler of a card knows, as far as the emulated kernels call them.
#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>

#include "backend/emulated/block.h"

#undef __launch_bounds__
#define __launch_bounds__(...)

namespace etalon::backend::cuda {
using std::max;
using std::min;
}  // namespace etalon::backend::cuda

inline void __syncthreads() {
    etalon::emulated::barriers[0].meet(static_cast<int>(blockDim.x), true);
}

/// Whether the argument of one thread is not 0.
inline int __syncthreads_or(int value) {
    static std::atomic<bool> any;
    if (value != 0) any = true;
    __syncthreads();
    const bool result = any;
    __syncthreads();
    if (threadIdx.x == 0) any = false;
    __syncthreads();  // the next call begins with it
    return result ? 1 : 0;
}

namespace etalon::emulated {

/// What each lane shows the others; `choose` takes from the words of all of them.
template <typename Value, typename Choose>
Value exchange(Value value, const Choose& choose) {
    static_assert(sizeof(Value) == sizeof(unsigned));
    Warp& of = warp();
    of.words[static_cast<std::size_t>(lane())][0] = std::bit_cast<unsigned>(value);
    meet_warp();
    const Value chosen = choose([&](int from) {
        return std::bit_cast<Value>(of.words[static_cast<std::size_t>(from)][0]);
    });
    meet_warp();
    return chosen;
}

}  // namespace etalon::emulated

template <typename Value>
Value __shfl_xor_sync(unsigned, Value value, int other) {
    return etalon::emulated::exchange(
        value, [&](const auto& word) { return word(etalon::emulated::lane() ^ other); });
}
template <typename Value>
Value __shfl_down_sync(unsigned, Value value, int distance) {
    const int from = etalon::emulated::lane() + distance;
    return etalon::emulated::exchange(value, [&](const auto& word) {
        return from < etalon::emulated::kWarpThreads ? word(from) : value;
    });
}
inline unsigned __reduce_max_sync(unsigned, unsigned value) {
    return etalon::emulated::exchange(value, [](const auto& word) {
        unsigned largest = 0;
        for (int i = 0; i < etalon::emulated::kWarpThreads; ++i)
            largest = std::max(largest, word(i));
        return largest;
    });
}

// Tests are compiled without contraction.
inline float __fmul_rn(float a, float b) {
    return a * b;
}
inline float __fadd_rn(float a, float b) {
    return a + b;
}
inline float __fsub_rn(float a, float b) {
    return a - b;
}
inline float __fdiv_rn(float a, float b) {
    return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
    return std::fma(a, b, c);
}
inline float __fsqrt_rn(float a) {
    return std::sqrt(a);
}
inline float __ll2float_rn(long long a) {
    return static_cast<float>(a);
}
inline unsigned __float_as_uint(float a) {
    return std::bit_cast<unsigned>(a);
}
inline float __uint_as_float(unsigned a) {
    return std::bit_cast<float>(a);
}

template <typename Value>
Value __ldcg(const Value* address) {
    return *address;
}

/// Byte i of a word, signed.
inline int signed_byte_of(unsigned word, int i) {
    return static_cast<std::int8_t>(word >> (8 * i));
}
inline int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 4; ++i)
        c += signed_byte_of(static_cast<unsigned>(a), i) *
             signed_byte_of(static_cast<unsigned>(b), i);
    return c;
}
/// The two halves of a with the two low bytes of b.
inline int __dp2a_lo(int a, int b, int c) {
    return c + static_cast<std::int16_t>(a) * signed_byte_of(static_cast<unsigned>(b), 0) +
           static_cast<std::int16_t>(a >> 16) * signed_byte_of(static_cast<unsigned>(b), 1);
}
inline unsigned __byte_perm(unsigned low, unsigned high, unsigned selector) {
    const std::uint64_t both = std::uint64_t{high} << 32 | low;
    unsigned result = 0;
    for (int i = 0; i < 4; ++i)
        result |= static_cast<unsigned>(both >> (8 * (selector >> (4 * i) & 7)) & 255) << (8 * i);
    return result;
}

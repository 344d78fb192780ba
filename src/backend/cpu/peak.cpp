// SPDX-License-Identifier: Apache-2.0
// What a machine can do at most, measured: loops over registers, and reads of a large buffer.
#include "backend/cpu/peak.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <numeric>
#include <vector>

#include "base/error.h"

#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the "undefined" operands inside its own AVX-512 intrinsics for a mistake.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#endif

namespace etalon::backend {

namespace {

using Clock = std::chrono::steady_clock;

constexpr int kRepetitions = 5;
// Sums that are kept apart, so that the latency of one instruction hides behind the others.
constexpr int kChains = 12;
// Steps of every chain in one task: some milliseconds, long against the start of a loop.
constexpr int kSteps = 1 << 22;

template <typename F>
double median_seconds(const F& work) {
    std::array<double, kRepetitions> seconds{};
    for (double& s : seconds) {
        const Clock::time_point start = Clock::now();
        work();
        s = std::chrono::duration<double>(Clock::now() - start).count();
    }
    std::nth_element(seconds.begin(), seconds.begin() + kRepetitions / 2, seconds.end());
    return seconds[kRepetitions / 2];
}

#if defined(__x86_64__)

constexpr int kMacsAvx2 = 32;
constexpr int kMacsAvx512 = 64;

/// maddubs, madd, add: 32 products a step, the shortest sequence that cannot saturate. The empty
/// asm makes the operand unknown to the compiler, which would move the products out of the loop.
__attribute__((target("avx2"))) int multiply_add_avx2() {
    __m256i sums[kChains] = {};
    const __m256i weights = _mm256_set1_epi8(3);
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i x = _mm256_set1_epi8(1);
    for (int step = 0; step < kSteps; ++step) {
        for (__m256i& sum : sums) {
            asm volatile("" : "+x"(x));
            const __m256i pairs = _mm256_maddubs_epi16(weights, x);
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, ones));
        }
    }
    __m256i total = _mm256_setzero_si256();
    for (const __m256i& sum : sums)
        total = _mm256_add_epi32(total, sum);
    return _mm256_extract_epi32(total, 0);
}

/// vpdpbusd: 64 products a step.
__attribute__((target("avx512f,avx512vnni"))) int multiply_add_avx512() {
    __m512i sums[kChains] = {};
    const __m512i weights = _mm512_set1_epi8(3);
    __m512i x = _mm512_set1_epi8(1);
    for (int step = 0; step < kSteps; ++step) {
        for (__m512i& sum : sums) {
            asm volatile("" : "+v"(x));
            sum = _mm512_dpbusd_epi32(sum, weights, x);
        }
    }
    __m512i total = _mm512_setzero_si512();
    for (const __m512i& sum : sums)
        total = _mm512_add_epi32(total, sum);
    return _mm_extract_epi32(_mm512_castsi512_si128(total), 0);
}

#endif

/// The sum of a slice; eight lanes that the compiler keeps in vector registers.
std::uint64_t sum_words(const std::uint64_t* words, std::size_t count) {
    std::array<std::uint64_t, 8> lanes{};
    for (std::size_t i = 0; i + lanes.size() <= count; i += lanes.size()) {
        for (std::size_t lane = 0; lane < lanes.size(); ++lane)
            lanes[lane] += words[i + lane];
    }
    return std::accumulate(lanes.begin(), lanes.end(), std::uint64_t{0});
}

}  // namespace

std::optional<double> integer_peak(Isa isa, ThreadPool& pool) {
#if defined(__x86_64__)
    if (isa == Isa::generic || !isa_is_available(isa)) return std::nullopt;
    int (*const loop)() = isa == Isa::avx2 ? multiply_add_avx2 : multiply_add_avx512;
    const double macs_step = isa == Isa::avx2 ? kMacsAvx2 : kMacsAvx512;
    const int n_threads = pool.n_threads();
    std::vector<int> results(static_cast<std::size_t>(n_threads));
    const double seconds = median_seconds([&] {
        pool.run(n_threads,
                 [&](int task, int) { results[static_cast<std::size_t>(task)] = loop(); });
    });
    constexpr double kOperationsMac = 2.0;
    return kOperationsMac * macs_step * kChains * kSteps * n_threads / seconds;
#else
    (void)isa;
    (void)pool;
    return std::nullopt;
#endif
}

double read_speed(std::uint64_t buffer_bytes, ThreadPool& pool) {
    ETALON_ASSERT(buffer_bytes >= kReadSliceBytes);
    const std::size_t slice_words = kReadSliceBytes / sizeof(std::uint64_t);
    const auto n_slices = static_cast<int>(buffer_bytes / kReadSliceBytes);
    // Filled with a value, since the kernel maps pages that were never written to one page of
    // zeros.
    std::vector<std::uint64_t> buffer(static_cast<std::size_t>(n_slices) * slice_words, 1);
    std::vector<std::uint64_t> sums(static_cast<std::size_t>(n_slices));
    const double seconds = median_seconds([&] {
        pool.run(n_slices, [&](int slice, int) {
            const auto s = static_cast<std::size_t>(slice);
            sums[s] = sum_words(buffer.data() + s * slice_words, slice_words);
        });
    });
    for (const std::uint64_t sum : sums)
        ETALON_ASSERT(sum == slice_words);
    return static_cast<double>(n_slices) * static_cast<double>(kReadSliceBytes) / seconds;
}

}  // namespace etalon::backend

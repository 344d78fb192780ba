// SPDX-License-Identifier: Apache-2.0
// The last token of a prefix of the order of SMP-6, digit by digit: sums of P by the next digit of
// the tokens that begin as it does (spec SMP-6, SMP-7).
#pragma once

#include "backend/cuda/sm80/draw_row.cuh"

namespace etalon::backend::cuda {

__extension__ using u128 = unsigned __int128;

inline constexpr int kDigitBits = 8;
inline constexpr int kBins = 1 << kDigitBits;
inline constexpr int kBinsOfLane = kBins / kWarpLanes;
inline constexpr int kKeyWords = 3;  // P, logit, id
inline constexpr int kWordDigits = 32 / kDigitBits;
inline constexpr int kPieces = 3;  // of P in a sum of 32 bits
inline constexpr int kPieceBits = 11;
inline constexpr std::uint32_t kPieceMask = (1U << kPieceBits) - 1;
inline constexpr std::uint32_t kAll = 0xFFFFFFFFU;

/// The place of a token in the order of SMP-6, first is largest.
struct Key {
    std::uint32_t words[kKeyWords];

    __device__ Key(std::uint32_t p, std::uint32_t ordered_logit, int id)
        : words{p, ordered_logit, ~static_cast<std::uint32_t>(id)} {}
    __device__ Key(std::uint32_t p, float logit, int id) : Key(p, ordered(logit), id) {}
    __device__ std::uint32_t word(int word) const {
        return word == 0 ? words[0] : word == 1 ? words[1] : words[2];
    }
};

/// The last token of a prefix of the order; zero words behind the digits that tell it from others.
struct Last {
    std::uint32_t words[kKeyWords] = {};

    /// The token stands before it or is it.
    __device__ bool keeps(const Key& key) const {
#pragma unroll
        for (int i = 0; i < kKeyWords; ++i) {
            if (key.words[i] != words[i]) return key.words[i] > words[i];
        }
        return true;
    }
    __device__ void append(std::uint32_t next, int word, int digit) {
#pragma unroll
        for (int i = 0; i < kKeyWords; ++i) {
            if (i == word) words[i] |= next << (32 - kDigitBits * (digit + 1));
        }
    }
    /// The digits before `digit` of `word` are those of the token.
    __device__ bool begins(const Key& key, int word, int digit) const {
        bool same = true;
#pragma unroll
        for (int i = 0; i < kKeyWords; ++i) {
            const std::uint32_t other = key.words[i] ^ words[i];
            if (i < word) same = same && other == 0;
            if (i == word && digit > 0) same = same && other >> (32 - kDigitBits * digit) == 0;
        }
        return same;
    }
};

/// How long the prefix is: `count` tokens, or as many as reach `wanted` in units of 2^-32.
struct Length {
    std::uint32_t count = 1;
    u128 wanted = 0;

    __device__ bool reached(std::uint32_t n, std::uint64_t sum) const {
        return n >= count && (u128{sum} << 32) >= wanted;
    }
};

/// The sum over the lanes up to this one.
__device__ inline std::uint64_t warp_scan(std::uint64_t value, int lane) {
#pragma unroll
    for (int step = 1; step < kWarpLanes; step *= 2) {
        const std::uint64_t other = __shfl_up_sync(kFullWarp, value, step);
        if (lane >= step) value += other;
    }
    return value;
}

/// What one thread has in the lowest bin. Most tokens of a row are there: they meet in registers.
struct LowBin {
    std::uint32_t count = 0;
    std::uint64_t sum = 0;
};

/// Counts of tokens and sums of their P by a digit, in shared memory.
struct Bins {
    std::uint32_t counts[kBins];
    std::uint32_t sums[kPieces][kBins];

    __device__ void clear(int thread, int n_threads) {
        for (int bin = thread; bin < kBins; bin += n_threads) {
            counts[bin] = 0;
            for (auto& piece : sums)
                piece[bin] = 0;
        }
    }
    /// The token if it begins as `last`, by digit `digit` of `word`.
    __device__ void add(const Key& key, const Last& last, int word, int digit, LowBin& low) {
        const std::uint32_t p = key.words[0];
        if (p == 0 || !last.begins(key, word, digit)) return;
        const std::uint32_t bin = key.word(word) >> (32 - kDigitBits * (digit + 1)) & (kBins - 1);
        if (bin == 0) {
            ++low.count;
            low.sum += p;
        } else {
            add(bin, 1, p);
        }
    }
    /// All lanes of a warp call it.
    __device__ void add(const LowBin& low) {
        const std::uint32_t count = __reduce_add_sync(kFullWarp, low.count);
        const std::uint64_t sum = warp_sum(low.sum);
        if (threadIdx.x % kWarpLanes == 0 && count > 0) add(0, count, sum);
    }
    __device__ std::uint64_t sum_of(int bin) const {
        return std::uint64_t{sums[0][bin]} + (std::uint64_t{sums[1][bin]} << kPieceBits) +
               (std::uint64_t{sums[2][bin]} << (2 * kPieceBits));
    }

  private:
    __device__ void add(std::uint32_t bin, std::uint32_t n, std::uint64_t sum) {
        atomicAdd(&counts[bin], n);
        atomicAdd(&sums[0][bin], static_cast<std::uint32_t>(sum) & kPieceMask);
        atomicAdd(&sums[1][bin], static_cast<std::uint32_t>(sum >> kPieceBits) & kPieceMask);
        atomicAdd(&sums[2][bin], static_cast<std::uint32_t>(sum >> (2 * kPieceBits)));
    }
};

/// Where a prefix ends.
struct Ending {
    std::uint64_t sum;     // of what stands before the digit, and then up to its end
    std::uint32_t count;   // likewise
    std::uint32_t inside;  // tokens with the digit
    std::uint32_t digit;   // kAll: the prefix is everything
};

/// The bin in which the prefix ends, from the highest one on; the first warp calls it. `count_of`
/// and `sum_of` tell what is in a bin.
template <typename CountOf, typename SumOf>
__device__ void find_bin(Ending& ending, const Length& length, const CountOf& count_of,
                         const SumOf& sum_of) {
    const int lane = static_cast<int>(threadIdx.x);
    const auto bin_of = [&](int i) { return kBins - 1 - (lane * kBinsOfLane + i); };
    std::uint32_t count = 0;
    std::uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kBinsOfLane; ++i) {
        count += count_of(bin_of(i));
        sum += sum_of(bin_of(i));
    }
    const std::uint64_t counts = ending.count + warp_scan(count, lane);
    const std::uint64_t sums = ending.sum + warp_scan(sum, lane);
    const bool ends = length.reached(static_cast<std::uint32_t>(counts), sums);
    const unsigned lanes = __ballot_sync(kFullWarp, ends);
    if (lanes == 0) {
        if (lane == 0) ending.digit = kAll;
        return;
    }
    if (lane != __ffs(static_cast<int>(lanes)) - 1) return;
    std::uint32_t count_so_far = static_cast<std::uint32_t>(counts) - count;
    std::uint64_t sum_so_far = sums - sum;
    for (int i = 0; i < kBinsOfLane; ++i) {
        const int bin = bin_of(i);
        const std::uint32_t inside = count_of(bin);
        const std::uint64_t inside_sum = sum_of(bin);
        if (length.reached(count_so_far + inside, sum_so_far + inside_sum)) {
            ending.digit = static_cast<std::uint32_t>(bin);
            ending.inside = inside;
            ending.count = count_so_far;
            ending.sum = inside == 1 ? sum_so_far + inside_sum : sum_so_far;
            return;
        }
        count_so_far += inside;
        sum_so_far += inside_sum;
    }
}

}  // namespace etalon::backend::cuda

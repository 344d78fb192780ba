// SPDX-License-Identifier: Apache-2.0
// From rows of logits to tokens (spec SMP-1 to SMP-8, SMP-10, ERR-3). The order of SMP-6 is never
// made: a prefix of it is found digit by digit, and sums of integers have no order.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/sm80/draw_row.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

__extension__ using u128 = unsigned __int128;

constexpr int kDigitBits = 8;
constexpr int kBins = 1 << kDigitBits;
constexpr int kBinsOfLane = kBins / kWarpLanes;
constexpr int kKeyWords = 3;  // P, logit, id
constexpr int kWordDigits = 32 / kDigitBits;
constexpr int kPieces = 3;  // of P in a sum of 32 bits
constexpr int kPieceBits = 11;
constexpr std::uint32_t kPieceMask = (1U << kPieceBits) - 1;
constexpr std::uint32_t kAll = 0xFFFFFFFFU;

/// What the block shares.
struct Shared {
    std::uint64_t words[kRowWarps];
    std::uint32_t counts[kBins];
    std::uint32_t sums[kPieces][kBins];
    // What one warp or thread found.
    std::uint64_t sum;     // of what stands before the digit, and then up to its end
    std::uint32_t count;   // likewise
    std::uint32_t inside;  // tokens with the digit
    std::uint32_t digit;   // kAll: the prefix is everything
    std::uint64_t target;
    int segment;
};

/// The row after penalties, and what leaves it.
struct Row {
    const float* logits;
    const std::uint32_t* mask;  // null: all
    int n;
    float largest;
    float inverse_temperature;

    __device__ bool allowed(int id) const {
        return mask == nullptr || (mask[id / 32] >> (id % 32) & 1U) != 0;
    }
    /// P of SMP-5; 0 for a token that has left.
    __device__ std::uint32_t p(int id, float logit) const {
        return allowed(id) ? probability_units(logit, largest, inverse_temperature) : 0;
    }
};

/// The place of a token in the order of SMP-6, first is largest.
struct Key {
    std::uint32_t words[kKeyWords];

    __device__ Key(std::uint32_t p, float logit, int id)
        : words{p, ordered(logit), ~static_cast<std::uint32_t>(id)} {}
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
__device__ std::uint64_t warp_scan(std::uint64_t value, int lane) {
#pragma unroll
    for (int step = 1; step < kWarpLanes; step *= 2) {
        const std::uint64_t other = __shfl_up_sync(kFullWarp, value, step);
        if (lane >= step) value += other;
    }
    return value;
}

__device__ void add_to_bin(Shared& shared, std::uint32_t bin, std::uint32_t n, std::uint64_t sum) {
    atomicAdd(&shared.counts[bin], n);
    atomicAdd(&shared.sums[0][bin], static_cast<std::uint32_t>(sum) & kPieceMask);
    atomicAdd(&shared.sums[1][bin], static_cast<std::uint32_t>(sum >> kPieceBits) & kPieceMask);
    atomicAdd(&shared.sums[2][bin], static_cast<std::uint32_t>(sum >> (2 * kPieceBits)));
}

/// Counts and sums of P of the tokens that begin as `last`, by their next digit.
__device__ void fill_bins(Shared& shared, const Row& row, const Last& last, int word, int digit) {
    const int thread = static_cast<int>(threadIdx.x);
    for (int bin = thread; bin < kBins; bin += kRowThreads) {
        shared.counts[bin] = 0;
        for (auto& sums : shared.sums)
            sums[bin] = 0;
    }
    __syncthreads();
    // Most tokens of a row are in the lowest bin: they meet in registers first.
    std::uint32_t low_count = 0;
    std::uint64_t low_sum = 0;
    for (int id = thread; id < row.n; id += kRowThreads) {
        const float logit = row.logits[id];
        const std::uint32_t p = row.p(id, logit);
        const Key key(p, logit, id);
        if (p == 0 || !last.begins(key, word, digit)) continue;
        const std::uint32_t here = word == 0   ? key.words[0]
                                   : word == 1 ? key.words[1]
                                               : key.words[2];
        const std::uint32_t bin = here >> (32 - kDigitBits * (digit + 1)) & (kBins - 1);
        if (bin == 0) {
            ++low_count;
            low_sum += p;
        } else {
            add_to_bin(shared, bin, 1, p);
        }
    }
    low_count = __reduce_add_sync(kFullWarp, low_count);
    low_sum = warp_sum(low_sum);
    if (thread % kWarpLanes == 0 && low_count > 0) add_to_bin(shared, 0, low_count, low_sum);
    __syncthreads();
}

/// The bin in which the prefix ends, from the highest one on; the first warp calls it.
__device__ void find_bin(Shared& shared, const Length& length) {
    const int lane = static_cast<int>(threadIdx.x);
    const auto bin_of = [&](int i) { return kBins - 1 - (lane * kBinsOfLane + i); };
    const auto sum_of = [&](int bin) {
        return std::uint64_t{shared.sums[0][bin]} +
               (std::uint64_t{shared.sums[1][bin]} << kPieceBits) +
               (std::uint64_t{shared.sums[2][bin]} << (2 * kPieceBits));
    };
    std::uint32_t count = 0;
    std::uint64_t sum = 0;
#pragma unroll
    for (int i = 0; i < kBinsOfLane; ++i) {
        count += shared.counts[bin_of(i)];
        sum += sum_of(bin_of(i));
    }
    const std::uint64_t counts = shared.count + warp_scan(count, lane);
    const std::uint64_t sums = shared.sum + warp_scan(sum, lane);
    const bool ends = length.reached(static_cast<std::uint32_t>(counts), sums);
    const unsigned lanes = __ballot_sync(kFullWarp, ends);
    if (lanes == 0) {
        if (lane == 0) shared.digit = kAll;
        return;
    }
    if (lane != __ffs(static_cast<int>(lanes)) - 1) return;
    std::uint32_t count_so_far = static_cast<std::uint32_t>(counts) - count;
    std::uint64_t sum_so_far = sums - sum;
    for (int i = 0; i < kBinsOfLane; ++i) {
        const int bin = bin_of(i);
        const std::uint32_t inside = shared.counts[bin];
        const std::uint64_t inside_sum = sum_of(bin);
        if (length.reached(count_so_far + inside, sum_so_far + inside_sum)) {
            shared.digit = static_cast<std::uint32_t>(bin);
            shared.inside = inside;
            shared.count = count_so_far;
            shared.sum = inside == 1 ? sum_so_far + inside_sum : sum_so_far;
            return;
        }
        count_so_far += inside;
        sum_so_far += inside_sum;
    }
}

/// The last token of the shortest prefix of so many tokens or so much P; shared.sum is then the sum
/// of the prefix. False: all tokens are fewer.
__device__ bool find_last(Shared& shared, const Row& row, const Length& length, Last& last) {
    last = Last{};
    if (threadIdx.x == 0) {
        shared.count = 0;
        shared.sum = 0;
    }
#pragma unroll
    for (int word = 0; word < kKeyWords; ++word) {
        for (int digit = 0; digit < kWordDigits; ++digit) {
            fill_bins(shared, row, last, word, digit);
            if (threadIdx.x < kWarpLanes) find_bin(shared, length);
            __syncthreads();
            if (shared.digit == kAll) return false;
            last.words[word] |= shared.digit << (32 - kDigitBits * (digit + 1));
            if (shared.inside == 1) return true;
            __syncthreads();
        }
    }
    return true;
}

/// The first id whose P, with those before it, exceed the share `bits` of their sum (SMP-10).
/// `weight`(id) is P, or 0 where a filter took the token.
template <typename Weight>
__device__ void draw_id(Shared& shared, int n, std::uint64_t bits, const Weight& weight,
                        std::int32_t* token) {
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int warp = thread / kWarpLanes;
    // Each warp sums a segment.
    const int segment = (n + kRowThreads - 1) / kRowThreads * kWarpLanes;
    std::uint64_t sum = 0;
    for (int i = lane; i < segment; i += kWarpLanes) {
        const int id = warp * segment + i;
        if (id < n) sum += weight(id);
    }
    sum = warp_sum(sum);
    if (lane == 0) shared.words[warp] = sum;
    __syncthreads();
    if (warp == 0) {
        const std::uint64_t mine = shared.words[lane];
        const std::uint64_t end = warp_scan(mine, lane);
        const std::uint64_t all = __shfl_sync(kFullWarp, end, kWarpLanes - 1);
        const std::uint64_t target = __umul64hi(bits, all);
        if (target >= end - mine && target < end) {
            shared.segment = lane;
            shared.target = target - (end - mine);
        }
    }
    __syncthreads();
    // All threads look into the segment, some successive tokens each.
    const int begin = shared.segment * segment;
    const int each = (segment + kRowThreads - 1) / kRowThreads;
    const std::uint64_t target = shared.target;
    std::uint64_t mine = 0;
    for (int i = 0; i < each; ++i) {
        const int place = thread * each + i;
        if (place < segment && begin + place < n) mine += weight(begin + place);
    }
    std::uint64_t end = warp_scan(mine, lane);
    __syncthreads();  // words are read
    if (lane == kWarpLanes - 1) shared.words[warp] = end;
    __syncthreads();
    for (int w = 0; w < warp; ++w)
        end += shared.words[w];
    std::uint64_t before = end - mine;
    if (target < before || target >= end) return;
    for (int i = 0; i < each; ++i) {
        const int id = begin + thread * each + i;
        before += weight(id);
        if (target < before) {
            *token = id;
            return;
        }
    }
}

/// SMP-1 to SMP-3: the row with penalties and bias into `to`. Bits of the largest magnitude of what
/// the thread has read.
__device__ std::uint32_t adjust(const DrawRow& draw, const float* logits, int n,
                                const std::uint32_t* words, float* to) {
    const int thread = static_cast<int>(threadIdx.x);
    std::uint32_t amax = 0;
    for (int id = thread; id < n; id += kRowThreads) {
        to[id] = logits[id];
        amax = max(amax, magnitude_bits(logits[id]));
    }
    __syncthreads();
    const bool counts = draw.frequency != 0.0F || draw.presence != 0.0F;
    for (int i = thread; i < draw.n_penalties; i += kRowThreads) {
        const std::uint32_t* entry = words + draw.penalties + 2 * i;
        float& mine = to[entry[0]];
        float l = mine;
        if (draw.repetition != 1.0F)  // SMP-1
            l = l > 0.0F ? divide(l, draw.repetition) : mul(l, draw.repetition);
        if (counts && entry[1] > 0) {  // SMP-2
            const auto times = static_cast<float>(entry[1]);
            l = sub(sub(l, mul(draw.frequency, times)), draw.presence);
        }
        mine = l;
    }
    __syncthreads();
    for (int i = thread; i < draw.n_biases; i += kRowThreads) {  // SMP-3
        const std::uint32_t* entry = words + draw.biases + 2 * i;
        to[entry[0]] = add(to[entry[0]], __uint_as_float(entry[1]));
    }
    __syncthreads();
    return amax;
}

/// The token behind each row of logits (SMP-1 to SMP-8, SMP-10).
///   in:  logits binary32 [rows, n]; draws [blocks] and the words that they name
///   out: tokens [blocks]; -1: a logit is not finite, or no token is allowed (ERR-3)
///   tile: a row a block of 32 warps. The row is read once for the largest logit, twice more for a
///         draw, and for a filter once for each digit that tells its last token from others
///   floor: 4 n bytes a row and reading, of the second cache
///   supported: n <= kDrawVocabMax
__global__ void __launch_bounds__(kRowThreads)
    draw_sm80(const float* logits, int n, const DrawRow* draws, const std::uint32_t* words,
              float* adjusted, std::int32_t* tokens) {
    __shared__ Shared shared;
    const DrawRow draw = draws[blockIdx.x];
    const int thread = static_cast<int>(threadIdx.x);
    Row row{logits + static_cast<std::size_t>(draw.row) * n,
            draw.mask == DrawRow::kNoRow ? nullptr : words + draw.mask, n, 0.0F,
            draw.inverse_temperature};
    std::uint32_t amax = 0;
    if (draw.adjusted != DrawRow::kNoRow) {
        float* to = adjusted + static_cast<std::size_t>(draw.adjusted) * n;
        amax = adjust(draw, row.logits, n, words, to);
        row.logits = to;
    }
    // The largest logit, lowest id, of the allowed ones (SMP-4).
    std::uint64_t best = 0;  // no finite logit gives 0
#pragma unroll 4
    for (int id = thread; id < n; id += kRowThreads) {
        const float logit = row.logits[id];
        amax = max(amax, magnitude_bits(logit));
        if (row.allowed(id)) best = max(best, order_of(logit, id));
    }
    const bool finite = row_max(amax, shared.words) < kInfinityBits;
    best = row_max(best, shared.words);
    std::int32_t* token = tokens + blockIdx.x;
    if (!finite || best == 0 || draw.inverse_temperature == 0.0F) {
        if (thread == 0) *token = finite && best != 0 ? id_of(best) : -1;
        return;
    }
    row.largest = row.logits[id_of(best)];
    // What top-k and top-p leave (SMP-6, SMP-7).
    Last last;
    if (draw.top_k > 0) find_last(shared, row, {static_cast<std::uint32_t>(draw.top_k), 0}, last);
    if (draw.top_p < std::uint64_t{1} << 32) {
        __syncthreads();
        std::uint64_t total = shared.sum;
        if (last.words[0] == 0) {  // of all
            std::uint64_t sum = 0;
            for (int id = thread; id < n; id += kRowThreads)
                sum += row.p(id, row.logits[id]);
            __syncthreads();
            total = row_sum(sum, shared.words);
        }
        __syncthreads();
        find_last(shared, row, {1, u128{total} * draw.top_p}, last);
    }
    const bool filters = last.words[0] != 0;  // P of what is kept is at least 1
    const auto weight = [&](int id) -> std::uint32_t {
        const float logit = row.logits[id];
        const std::uint32_t p = row.p(id, logit);
        if (p < draw.p_least) return 0;  // SMP-8
        return !filters || last.keeps(Key(p, logit, id)) ? p : 0;
    };
    __syncthreads();
    draw_id(shared, n, draw.bits, weight, token);
}

}  // namespace

void launch_draw(const float* logits, int n, const DrawRow* rows, int n_rows,
                 const std::uint32_t* words, float* adjusted, std::int32_t* tokens, Stream stream) {
    ETALON_ASSERT(n >= 1 && n <= kDrawVocabMax && n_rows >= 1);
    draw_sm80<<<static_cast<unsigned>(n_rows), kRowThreads, 0, stream>>>(logits, n, rows, words,
                                                                         adjusted, tokens);
    check_launch("draw");
}

}  // namespace etalon::backend::cuda

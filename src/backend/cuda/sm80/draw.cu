// SPDX-License-Identifier: Apache-2.0
// From rows of logits to tokens (spec SMP-1 to SMP-8, SMP-10, ERR-3). The order of SMP-6 is never
// made: a prefix of it is found digit by digit, and sums of integers have no order.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/sm80/draw_order.cuh"
#include "backend/cuda/sm80/draw_row.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

/// What the block shares.
struct Shared {
    std::uint64_t words[kRowWarps];
    Bins bins;
    Ending ending;
    std::uint64_t target;  // what one thread found
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

/// Counts and sums of P of the tokens that begin as `last`, by their next digit.
__device__ void fill_bins(Bins& bins, const Row& row, const Last& last, int word, int digit) {
    const int thread = static_cast<int>(threadIdx.x);
    bins.clear(thread, kRowThreads);
    __syncthreads();
    LowBin low;
    for (int id = thread; id < row.n; id += kRowThreads) {
        const float logit = row.logits[id];
        const std::uint32_t p = row.p(id, logit);
        bins.add(Key(p, logit, id), last, word, digit, low);
    }
    bins.add(low);
    __syncthreads();
}

/// The last token of the shortest prefix of so many tokens or so much P; shared.ending.sum is then
/// the sum of the prefix. False: all tokens are fewer.
__device__ bool find_last(Shared& shared, const Row& row, const Length& length, Last& last) {
    last = Last{};
    if (threadIdx.x == 0) {
        shared.ending.count = 0;
        shared.ending.sum = 0;
    }
#pragma unroll
    for (int word = 0; word < kKeyWords; ++word) {
        for (int digit = 0; digit < kWordDigits; ++digit) {
            fill_bins(shared.bins, row, last, word, digit);
            if (threadIdx.x < kWarpLanes) {
                find_bin(
                    shared.ending, length, [&](int bin) { return shared.bins.counts[bin]; },
                    [&](int bin) { return shared.bins.sum_of(bin); });
            }
            __syncthreads();
            if (shared.ending.digit == kAll) return false;
            last.append(shared.ending.digit, word, digit);
            if (shared.ending.inside == 1) return true;
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
///   in:  logits binary32 [rows, n]; draws [blocks] and the words that they name; of
///        those that are drawn at once nothing is made
///   out: tokens [blocks]; -1: a logit is not finite, or no token is allowed (ERR-3)
///   tile: a row a block of 32 warps. The row is read once for the largest logit, twice more for a
///         draw, and for a filter once for each digit that tells its last token from others
///   floor: 4 n bytes a row and reading, of the second cache
///   supported: n <= kDrawVocabMax
__global__ void __launch_bounds__(kRowThreads)
    draw_sm80(const float* logits, int n, const DrawRow* draws, const std::uint32_t* words,
              float* adjusted, AtOnce at_once, std::int32_t* tokens) {
    __shared__ Shared shared;
    const DrawRow draw = draws[blockIdx.x];
    if (draws_at_once(draw, at_once)) return;
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
        std::uint64_t total = shared.ending.sum;
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
                 const std::uint32_t* words, float* adjusted, AtOnce at_once, std::int32_t* tokens,
                 Stream stream) {
    ETALON_ASSERT(n >= 1 && n <= kDrawVocabMax && n_rows >= 1);
    draw_sm80<<<static_cast<unsigned>(n_rows), kRowThreads, 0, stream>>>(logits, n, rows, words,
                                                                         adjusted, at_once, tokens);
    check_launch("draw");
}

}  // namespace etalon::backend::cuda

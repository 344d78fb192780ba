// SPDX-License-Identifier: Apache-2.0
// From rows of logits to tokens where neither penalties nor bias change the rows (spec SMP-4 to
// SMP-8, SMP-10, ERR-3), with the checksum of the row (CHK-1). A row lies in the registers of a
// cluster, so that it is read once. Other rows: sm80/draw.cu.
#include <algorithm>
#include <cuda_runtime.h>
#include <type_traits>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/draw_order.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kBlocks = 8;  // of a cluster: every card of 9.0 runs as many
/// Warps of a block, logits of a thread, and blocks that the registers of a multiprocessor are to
/// hold, also where tokens leave by their order: for usual vocabularies and for large ones.
struct Usual {
    static constexpr int kWarps = 16;
    static constexpr int kMine = 8;
    static constexpr int kBlocksLeast = 3;
    static constexpr int kBlocksFiltered = 2;
};
struct Large {
    static constexpr int kWarps = 32;
    static constexpr int kMine = 16;
    static constexpr int kBlocksLeast = 1;
    static constexpr int kBlocksFiltered = 1;
};
/// Largest vocabulary of a size.
template <typename Size>
constexpr int vocab_max() {
    return kBlocks * (Size::kWarps * kWarpLanes) * Size::kMine;
}
static_assert(vocab_max<Large>() == kDrawAtOnceMax);

/// The first rows as parameters of the kernel, so that no copy is waited for.
struct FewRows {
    DrawRow rows[kDrawFewRows];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

constexpr int kHalfBits = 16;  // of P in a sum of 32 lanes
constexpr std::uint32_t kHalfMask = (1U << kHalfBits) - 1;
/// Above the order of every finite logit: one of the row is not finite.
constexpr std::uint64_t kBad = ~std::uint64_t{0};

/// What a block shares where tokens leave by their order.
struct Order {
    Bins bins[2];  // of the block, in turns: other blocks read them
    // Of the row, of each bin.
    std::uint32_t counts[kBins];
    std::uint64_t sums[kBins];
    Ending ending;
};
struct NoOrder {};

/// What a block shares.
template <bool kFilters>
struct Shared {
    std::conditional_t<kFilters, Order, NoOrder> order;
    std::uint64_t words[2][Large::kWarps];  // of its warps
    // Of the blocks of the cluster, which write them.
    std::uint64_t best[kBlocks];
    std::uint64_t checksums[kBlocks];
    std::uint64_t sums[kBlocks];
};

/// The sum over the lanes; all get it.
__device__ std::uint64_t lanes_sum(std::uint32_t p) {
    const std::uint32_t low = __reduce_add_sync(kFullWarp, p & kHalfMask);
    const std::uint32_t high = __reduce_add_sync(kFullWarp, p >> kHalfBits);
    return (std::uint64_t{high} << kHalfBits) + low;
}

/// The logit behind an order; of both zeros the positive one, which gives the same P.
__device__ float logit_of(std::uint64_t order) {
    const auto bits = static_cast<std::uint32_t>(order >> 32);
    return __uint_as_float((bits >> 31) != 0 ? bits ^ 0x80000000U : ~bits);
}

/// The logits of a warp: those of a lane are 32 ids apart, from `first` on.
template <int kMine>
struct Mine {
    float logits[kMine];
    std::uint32_t kept = 0;      // bit j: logits[j] is one of the row and allowed
    std::uint64_t checksum = 0;  // of the warp (CHK-1)

    __device__ Mine(const float* row, const std::uint32_t* mask, int first, int n) {
#pragma unroll
        for (int j = 0; j < kMine; ++j) {
            const int id = first + j * kWarpLanes;
            logits[j] = id < n ? row[id] : 0.0F;
            if (id < n) kept |= 1U << j;
        }
        if (mask != nullptr) {
#pragma unroll 8
            for (int j = 0; j < kMine; ++j) {
                const int id = first + j * kWarpLanes;
                if (id >= n) break;
                if ((mask[id / kWarpLanes] >> (id % kWarpLanes) & 1U) == 0) kept &= ~(1U << j);
            }
        }
#pragma unroll
        for (int j = 0; j < kMine; ++j)  // what is behind the row is zero
            checksum += std::uint64_t{__float_as_uint(logits[j])} *
                        static_cast<std::uint32_t>(2 * (first + j * kWarpLanes) + 1);
        checksum = warp_sum(checksum);
    }

    /// The order of the best kept logit of the warp (order_of), without its id unless `with_id`; 0:
    /// none is kept, kBad: one is not finite.
    __device__ std::uint64_t best(int first, bool with_id) const {
        std::uint32_t amax = 0;
        float largest = -INFINITY;
#pragma unroll
        for (int j = 0; j < kMine; ++j) {
            amax = max(amax, magnitude_bits(logits[j]));
            if ((kept >> j & 1U) != 0) largest = fmaxf(largest, logits[j]);
        }
        if (__reduce_max_sync(kFullWarp, amax) >= kInfinityBits) return kBad;
        const std::uint32_t mine = kept != 0 ? ordered(largest) : 0;
        const std::uint32_t all = __reduce_max_sync(kFullWarp, mine);
        if (!with_id || all == 0) return std::uint64_t{all} << 32;
        std::uint32_t id = ~0U;
#pragma unroll
        for (int j = kMine - 1; j >= 0; --j) {
            if ((kept >> j & 1U) != 0 && logits[j] == largest)
                id = static_cast<std::uint32_t>(first + j * kWarpLanes);
        }
        id = __reduce_min_sync(kFullWarp, mine == all ? id : ~0U);
        return std::uint64_t{all} << 32 | ~id;
    }
};

/// One for each logit of a thread.
template <int kMine>
using Words = std::uint32_t[kMine];

/// The lane and logit in which the sums of P, by id, exceed `target`, which lies in the warp.
template <int kMine>
__device__ void find_token(const Words<kMine>& p, std::uint64_t target, int first,
                           std::int32_t* token) {
    const auto lane = threadIdx.x % kWarpLanes;
    bool found = false;
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
        if (found) continue;
        const std::uint64_t sum = lanes_sum(p[j]);
        if (target >= sum) {
            target -= sum;
            continue;
        }
        found = true;
        std::uint64_t end = p[j];  // up to the lane
#pragma unroll
        for (unsigned step = 1; step < kWarpLanes; step *= 2) {
            const std::uint64_t other = __shfl_up_sync(kFullWarp, end, step);
            if (lane >= step) end += other;
        }
        if (target < end && target >= end - p[j]) *token = first + j * kWarpLanes;
    }
}

/// Sums over the row.
struct Sums {
    std::uint64_t before;  // the warp
    std::uint64_t all;
};

/// Of the sums of all warps. A meeting of the cluster lies between a call and the next one's.
template <int kWarps, bool kFilters>
__device__ Sums row_sums(Shared<kFilters>& shared, std::uint64_t of_warp) {
    const unsigned warp = threadIdx.x / kWarpLanes;
    const unsigned rank = cluster_rank();
    if (threadIdx.x % kWarpLanes == 0) shared.words[0][warp] = of_warp;
    __syncthreads();
    Sums sums{0, 0};
    std::uint64_t of_block = 0;
#pragma unroll
    for (unsigned w = 0; w < kWarps; ++w) {
        const std::uint64_t other = shared.words[0][w];
        if (w < warp) sums.before += other;
        of_block += other;
    }
    if (threadIdx.x < kBlocks) store_at(&shared.sums[rank], of_block, threadIdx.x);
    cluster_sync();
#pragma unroll
    for (unsigned i = 0; i < kBlocks; ++i) {
        const std::uint64_t other = shared.sums[i];
        if (i < rank) sums.before += other;
        sums.all += other;
    }
    return sums;
}

/// The bins of all blocks into those of the row.
__device__ void add_bins(Order& order, const Bins& bins) {
    const unsigned bin = threadIdx.x;
    if (bin >= kBins) return;
    std::uint32_t count = 0;
    std::uint64_t pieces[kPieces] = {};
#pragma unroll 4
    for (unsigned i = 0; i < kBlocks; ++i) {
        count += load_at(&bins.counts[bin], i);
#pragma unroll
        for (int piece = 0; piece < kPieces; ++piece)
            pieces[piece] += load_at(&bins.sums[piece][bin], i);
    }
    order.counts[bin] = count;
    order.sums[bin] = pieces[0] + (pieces[1] << kPieceBits) + (pieces[2] << (2 * kPieceBits));
}

/// The last token of the shortest prefix of so many tokens or so much P; order.ending.sum is then
/// the sum of the prefix. False: all tokens are fewer. `turn` counts digits; the bins of the next
/// one are zero, before and after.
template <int kThreads, int kMine>
__device__ bool find_last(Order& order, unsigned& turn, const Words<kMine>& p,
                          const Words<kMine>& logits, int first, const Length& length, Last& last) {
    const auto thread = static_cast<int>(threadIdx.x);
    last = Last{};
    __syncthreads();  // the ending before is read
    if (thread == 0) {
        order.ending.count = 0;
        order.ending.sum = 0;
    }
#pragma unroll 1
    for (int word = 0; word < kKeyWords; ++word) {
#pragma unroll 1
        for (int digit = 0; digit < kWordDigits; ++digit) {
            Bins& bins = order.bins[turn++ % 2];
            LowBin low;
#pragma unroll
            for (int j = 0; j < kMine; ++j)
                bins.add(Key(p[j], logits[j], first + j * kWarpLanes), last, word, digit, low);
            bins.add(low);
            cluster_sync();
            add_bins(order, bins);
            order.bins[turn % 2].clear(thread, kThreads);  // who read them has come to the meeting
            __syncthreads();
            if (thread < kWarpLanes) {
                find_bin(
                    order.ending, length, [&](int bin) { return order.counts[bin]; },
                    [&](int bin) { return order.sums[bin]; });
            }
            __syncthreads();
            if (order.ending.digit == kAll) return false;
            last.append(order.ending.digit, word, digit);
            if (order.ending.inside == 1) return true;
        }
    }
    return true;
}

/// p of a token that top-k or top-p takes becomes 0 (SMP-6, SMP-7); `logits` as ordered() gives
/// them.
template <int kWarps, int kMine>
__device__ void filter(Shared<true>& shared, const DrawRow& draw, int first, Words<kMine>& p,
                       const Words<kMine>& logits) {
    constexpr int kThreads = kWarps * kWarpLanes;
    Order& order = shared.order;
    for (Bins& bins : order.bins)
        bins.clear(static_cast<int>(threadIdx.x), kThreads);
    unsigned turn = 0;
    Last last;
    if (draw.top_k > 0) {
        find_last<kThreads>(order, turn, p, logits, first,
                            {static_cast<std::uint32_t>(draw.top_k), 0}, last);
    }
    if (draw.top_p < std::uint64_t{1} << 32) {
        std::uint64_t total = order.ending.sum;
        if (last.words[0] == 0) {  // of all
            std::uint64_t sum = 0;
#pragma unroll
            for (int j = 0; j < kMine; ++j)
                sum += p[j];
            total = row_sums<kWarps>(shared, warp_sum(sum)).all;
        }
        find_last<kThreads>(order, turn, p, logits, first, {1, u128{total} * draw.top_p}, last);
    }
    if (last.words[0] == 0) return;  // P of what is kept is at least 1
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
        if (!last.keeps(Key(p[j], logits[j], first + j * kWarpLanes))) p[j] = 0;
    }
}

/// The rest of a draw with a temperature: P, and the token by their sums (SMP-5 to SMP-8, SMP-10).
template <int kWarps, bool kFilters, int kMine>
__device__ void draw_by_sums(Shared<kFilters>& shared, const Mine<kMine>& mine, const DrawRow& draw,
                             float largest, int first, std::int32_t* token) {
    Words<kMine> p;
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
        p[j] = probability_units(mine.logits[j], largest, draw.inverse_temperature);
        if ((mine.kept >> j & 1U) == 0) p[j] = 0;
    }
    if constexpr (kFilters) {
        if (is_filtered(draw)) {
            Words<kMine> logits;
#pragma unroll
            for (int j = 0; j < kMine; ++j)
                logits[j] = ordered(mine.logits[j]);
            filter<kWarps>(shared, draw, first, p, logits);
        }
    }
    std::uint64_t sum = 0;
#pragma unroll
    for (int j = 0; j < kMine; ++j) {
        if (p[j] < draw.p_least) p[j] = 0;
        sum += p[j];
    }
    sum = warp_sum(sum);
    const Sums sums = row_sums<kWarps>(shared, sum);
    const std::uint64_t target = __umul64hi(draw.bits, sums.all);
    if (target >= sums.before && target < sums.before + sum)
        find_token(p, target - sums.before, first, token);
}

#endif

/// The token behind each row of logits and the checksum of the row (SMP-4 to SMP-8, SMP-10, ERR-3,
/// CHK-1).
///   in:  logits binary32 [rows, n]; draws as few.rows, or [clusters] where there are more, and the
///        words that they name; of other rows than draws_at_once() takes nothing is made
///   out: tokens [clusters]: -1: a logit is not finite, or no token is allowed; back, where it is
///        not null. All of it may be memory of the host
///   tile: a row a cluster of 8 blocks; a warp has 32 kMine successive logits, which the lanes keep
///         in registers. The blocks meet for the largest logit, for the sum of P, and for a
///         filter once for each digit that tells its last token from others
///   floor: 4 n bytes a row, of the second cache
///   supported: n <= vocab_max<Size>(); kFilters: all rows without penalties and bias
template <typename Size, bool kFilters>
__global__ void __launch_bounds__(Size::kWarps* kWarpLanes,
                                  kFilters ? Size::kBlocksFiltered : Size::kBlocksLeast)
    draw_sm90(const float* logits, int n, const __grid_constant__ FewRows few, const DrawRow* draws,
              const std::uint32_t* words, std::int32_t* tokens, DrawBack back) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    constexpr int kMine = Size::kMine;
    constexpr int kWarps = Size::kWarps;
    __shared__ Shared<kFilters> shared;
    cluster_arrive();
    const unsigned rank = cluster_rank();
    const unsigned index = blockIdx.x / kBlocks;
    const unsigned warp = threadIdx.x / kWarpLanes;
    const unsigned lane = threadIdx.x % kWarpLanes;
    wait_for_kernels_before();
    const DrawRow draw = draws == nullptr ? few.rows[index] : draws[index];
    const bool takes = draws_at_once(draw, kFilters ? AtOnce::unadjusted : AtOnce::unfiltered);
    const int first =
        static_cast<int>((rank * kWarps + warp) * kWarpLanes) * kMine + static_cast<int>(lane);
    const std::uint32_t* mask = draw.mask == DrawRow::kNoRow ? nullptr : words + draw.mask;
    cluster_wait();  // every block has started
    if (!takes) return;
    const Mine<kMine> mine(logits + static_cast<std::size_t>(draw.row) * n, mask, first, n);
    const bool greedy = draw.inverse_temperature == 0.0F;
    std::uint64_t best = mine.best(first, greedy);
    if (lane == 0) {
        shared.words[0][warp] = best;
        shared.words[1][warp] = mine.checksum;
    }
    __syncthreads();
    std::uint64_t checksum = 0;
    if (warp == 0) {
        const bool has_warp = lane < kWarps;
        best = warp_max(has_warp ? shared.words[0][lane] : 0);
        checksum = warp_sum(has_warp ? shared.words[1][lane] : 0);
        if (lane < kBlocks) {
            store_at(&shared.best[rank], best, lane);
            store_at(&shared.checksums[rank], checksum, lane);
        }
    }
    cluster_sync();  // also: the words of the block are read
    best = 0;
    checksum = 0;
#pragma unroll
    for (int i = 0; i < kBlocks; ++i) {
        best = max(best, shared.best[i]);
        checksum += shared.checksums[i];
    }
    const bool leads = rank == 0 && threadIdx.x == 0;
    if (leads && back.sums != nullptr) back.sums[draw.row] = checksum;
    // Behind the meeting, whose fence would wait for these writes to the host; the last warp
    // starts: the first one has the token.
    if (blockIdx.x == 0) {
        constexpr int kThreads = kWarps * kWarpLanes;
        for (int i = kThreads - 1 - static_cast<int>(threadIdx.x); i < back.n_flags; i += kThreads)
            back.flags[i] = back.flags_from[i];
    }
    const bool none = best == kBad || best == 0;
    if (none || greedy) {
        if (leads) tokens[index] = none ? -1 : id_of(best);
        return;
    }
    draw_by_sums<kWarps>(shared, mine, draw, logit_of(best), first, tokens + index);
#endif
}

template <typename Size, bool kFilters>
void launch(const float* logits, int n, const FewRows& few, const DrawRow* rows, int n_rows,
            const std::uint32_t* words, std::int32_t* tokens, const DrawBack& back, Stream stream) {
    launch_cluster("draw", draw_sm90<Size, kFilters>, dim3(static_cast<unsigned>(n_rows * kBlocks)),
                   Size::kWarps * kWarpLanes, kBlocks, 0, stream, logits, n, few, rows, words,
                   tokens, back);
}

}  // namespace

void launch_draw_sm90(const float* logits, int n, std::span<const DrawRow> few, const DrawRow* rows,
                      int n_rows, AtOnce which, const std::uint32_t* words, std::int32_t* tokens,
                      const DrawBack& back, Stream stream) {
    ETALON_ASSERT(n >= 1 && n <= kDrawAtOnceMax && n_rows >= 1);
    ETALON_ASSERT(rows != nullptr || few.size() == static_cast<std::size_t>(n_rows));
    ETALON_ASSERT(few.size() <= kDrawFewRows);
    FewRows parameters{};
    std::copy(few.begin(), few.end(), parameters.rows);
    ETALON_ASSERT(which != AtOnce::none);
    const bool filters = which == AtOnce::unadjusted;
    const auto start = [&](const auto& launch_sized) {
        launch_sized(logits, n, parameters, rows, n_rows, words, tokens, back, stream);
    };
    if (n <= vocab_max<Usual>()) return start(filters ? launch<Usual, true> : launch<Usual, false>);
    start(filters ? launch<Large, true> : launch<Large, false>);
}

}  // namespace etalon::backend::cuda

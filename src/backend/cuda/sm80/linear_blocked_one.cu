// SPDX-License-Identifier: Apache-2.0
// Linear layers of blocked GGUF formats for one token (spec LIN-4 to LIN-6): a stream of records.
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/convert.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/blocked_shape.cuh"
#include "backend/cuda/sm80/linear_out.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kAtOnce = 4;  // successive blocks that a warp has asked for
constexpr int kQuads = kBlock / 4;
constexpr int kUsualWarps = 8;
constexpr int kManyWarps = 16;
// Barriers: a part of the products is there; it was read.
constexpr int kThere = 1;
constexpr int kRead = 3;
static_assert(kBlockedWidth == kWarpLanes, "a lane has one row of the tile");

/// Warps that multiply; one more runs the chains. Where rows are few, more of them keep as many
/// bytes under way.
template <int kWarps>
struct Team {
    static constexpr int kThreads = (kWarps + 1) * kWarpLanes;
    static constexpr int kPartBlocks = kWarps * kAtOnce;
    static constexpr int kBlocksMin = kWarps == kManyWarps ? 1 : 3;  // of a multiprocessor
};

/// What the chain of a row needs of a block: float(p_b), d_b a_b, and float(s_b), m_b a_b.
template <bool kMinimum>
struct Link {
    float product;
    float d;
};
template <>
struct alignas(16) Link<true> {
    float product;
    float d;
    float minimum;
    float m;
};

template <Format kFormat>
using LinkOf = Link<BlockedShape<kFormat>::kMinimum>;

/// The products of two parts; behind them the input: codes, scales, sums.
template <Format kFormat, int kWarps>
constexpr int kLinkBytes = static_cast<int>(sizeof(LinkOf<kFormat>)) * kBlockedWidth *
                           2 * Team<kWarps>::kPartBlocks;
constexpr int kInputBytes = kBlock + 8;  // a block

/// A block of a row as it lies in memory.
template <Format kFormat>
struct Raw {
    using S = BlockedShape<kFormat>;
    static constexpr int kWords = S::kFourBits ? kQuads / 2 : kQuads;
    static constexpr bool kOneHead = S::kRecordBlocks > 1;  // of kAtOnce blocks
    static_assert(!kOneHead || S::kRecordBlocks % kAtOnce == 0);
    std::uint32_t words[kWords];
    std::uint16_t d;
    std::uint16_t m;
    int scales[2];
    int mins[2];

    /// Block b of the row `lane`, the k-th that the warp asks for.
    __device__ void load(const std::byte* tile, int b, int k, int lane) {
        const std::byte* record =
            tile + static_cast<std::size_t>(b / S::kRecordBlocks) * S::kRecordBytes;
        const std::byte* block = record + S::kHeadBytes + b % S::kRecordBlocks * S::kBlockBytes;
        const auto* codes = reinterpret_cast<const std::uint32_t*>(block + S::kCodes) + lane;
#pragma unroll
        for (int i = 0; i < kWords; ++i)
            words[i] = load_streaming_4(codes + i * kBlockedWidth);
        if (!kOneHead || k == 0) {
            d = load_2(reinterpret_cast<const std::uint16_t*>(record) + lane);
            if constexpr (S::kMinimum)
                m = load_2(reinterpret_cast<const std::uint16_t*>(record + S::kM) + lane);
        }
        if constexpr (S::kShared || S::kHalves) {
            scales[0] = load_signed_1(block + lane);
            if constexpr (S::kMinimum) mins[0] = load_signed_1(block + S::kSubMins + lane);
        }
        if constexpr (S::kHalves) {
            scales[1] = load_signed_1(block + kBlockedWidth + lane);
            if constexpr (S::kMinimum)
                mins[1] = load_signed_1(block + S::kSubMins + kBlockedWidth + lane);
        }
    }
};

/// The input in shared memory.
struct Input {
    const int4* codes;
    const float* scales;
    const int* sums;  // of both halves of a block
};

/// What the chain of a row needs of block b (LIN-4); exact as BlockedFactors of
/// linear_blocked.cu says.
template <Format kFormat>
__device__ LinkOf<kFormat> multiply(const Raw<kFormat>& raw, float d, float m, const Input& x,
                                    int b) {
    using S = BlockedShape<kFormat>;
    constexpr std::uint32_t kLow = 0x0F0F0F0FU;
    std::uint32_t codes[kQuads];
#pragma unroll
    for (int i = 0; i < kQuads; ++i) {
        if constexpr (S::kFourBits) {
            const std::uint32_t nibbles = raw.words[i / 2] >> (i % 2 * 4) & kLow;
            codes[i] = S::kForm.code == Code::table ? table_values(nibbles) : nibbles;
        } else {
            codes[i] = raw.words[i];
        }
    }
    const auto dot = [&](int from, int start) {
        const int4 q = x.codes[2 * b + from / 4];
        int sum = __dp4a(static_cast<int>(codes[from]), q.x, start);
        sum = __dp4a(static_cast<int>(codes[from + 1]), q.y, sum);
        sum = __dp4a(static_cast<int>(codes[from + 2]), q.z, sum);
        return __dp4a(static_cast<int>(codes[from + 3]), q.w, sum);
    };
    constexpr int kOffsetByte = -S::kOffset & 0xFF;
    const int sums = S::kNeedsSums ? x.sums[b] : 0;
    int p;
    if constexpr (S::kHalves) {
        p = raw.scales[0] * dot(0, __dp2a_lo(sums, kOffsetByte, 0)) +
            raw.scales[1] * dot(4, __dp2a_lo(sums, kOffsetByte << 8, 0));
    } else {
        p = dot(4, dot(0, __dp2a_lo(sums, kOffsetByte * 0x101, 0)));
        if constexpr (S::kShared) p *= raw.scales[0];
    }
    const float a = x.scales[b];
    LinkOf<kFormat> link;
    link.product = static_cast<float>(p);
    link.d = mul(d, a);
    if constexpr (S::kMinimum) {
        int s = __dp2a_lo(sums, S::kHalves ? 1 : 0x101, 0);
        if constexpr (S::kShared) s *= raw.mins[0];
        if constexpr (S::kHalves) s = raw.mins[0] * s + raw.mins[1] * (sums >> 16);
        link.minimum = static_cast<float>(s);
        link.m = mul(m, a);
    }
    return link;
}

/// Copies the token's input to shared memory.
__device__ Input copy_input(const ActivationsView& x, std::size_t token, int n_blocks,
                            std::byte* to) {
    const auto n_threads = static_cast<int>(blockDim.x);
    auto* codes = reinterpret_cast<int4*>(to);
    auto* scales = reinterpret_cast<float*>(codes + 2 * n_blocks);
    int* sums = reinterpret_cast<int*>(scales + n_blocks);
    const auto* from_codes =
        reinterpret_cast<const int4*>(x.block_q + token * static_cast<std::size_t>(x.stride));
    const std::size_t first = token * static_cast<std::size_t>(n_blocks);
    const auto* from_sums = reinterpret_cast<const int*>(x.half_sums) + first;
    for (int i = static_cast<int>(threadIdx.x); i < 2 * n_blocks; i += n_threads)
        codes[i] = from_codes[i];
    for (int i = static_cast<int>(threadIdx.x); i < n_blocks; i += n_threads) {
        scales[i] = x.block_scales[first + static_cast<std::size_t>(i)];
        sums[i] = from_sums[i];
    }
    return {codes, scales, sums};
}

/// y = w x for one token (linear_blocked.cu has what several take).
///   in:  w.records, tiles of 32 rows (cpu/linear_layout.h); x.block_q int8 [T, stride],
///        x.block_scales [T, K / 32], x.half_sums [T, K / 16]
///   out: out.y
///   tile: 32 rows, one a lane; 8 or 16 warps multiply and keep four blocks under way each, one
///         more runs the chains of a part behind them; shared: two parts of products and the
///         input, 64 KB at most and 40 bytes a block
///   floor: the records, of the read speed
///   supported: K a multiple of the format's block, up to kBlockedOneColumnsMax
template <Format kFormat, int kWarps>
__global__ void __launch_bounds__(Team<kWarps>::kThreads, Team<kWarps>::kBlocksMin)
    linear_blocked_one_sm80(BlockedView w, ActivationsView x, LinearOut out) {
    using S = BlockedShape<kFormat>;
    constexpr int kThreads = Team<kWarps>::kThreads;
    constexpr int kPartBlocks = Team<kWarps>::kPartBlocks;
    extern __shared__ int4 bytes[];
    auto* links = reinterpret_cast<LinkOf<kFormat>*>(bytes);
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int n_blocks = w.n_cols / kBlock;
    const std::byte* tile = w.records + static_cast<std::size_t>(blockIdx.x) *
                                            static_cast<std::size_t>(n_blocks / S::kRecordBlocks) *
                                            S::kRecordBytes;
    const int n_parts = (n_blocks + kPartBlocks - 1) / kPartBlocks;
    Raw<kFormat> raw[kAtOnce];
    const auto ask = [&] {
        if (warp >= kWarps) return;
#pragma unroll
        for (int k = 0; k < kAtOnce; ++k) {
            const int b = warp * kAtOnce + k;
            if (b < n_blocks) raw[k].load(tile, b, k, lane);
        }
    };
    let_next_kernel_start();
    const bool is_group = out.group != nullptr;  // which may have no token
    if (!is_group) ask();
    wait_for_kernels_before();
    enter_group(out);
    if (out.n_tokens < 1) return;
    if (is_group) ask();
    const Input input =
        copy_input(x, token_of(out, 0), n_blocks,
                   reinterpret_cast<std::byte*>(bytes) + kLinkBytes<kFormat, kWarps>);
    __syncthreads();
    if (warp < kWarps) {
#pragma unroll 1
        for (int part = 0; part < n_parts; ++part) {
            LinkOf<kFormat>* to = links + part % 2 * (kPartBlocks * kBlockedWidth) + lane;
            if (part >= 2) named_sync(kRead + part % 2, kThreads);
            float d = 0.0F;
            float m = 0.0F;
#pragma unroll
            for (int k = 0; k < kAtOnce; ++k) {
                const int place = warp * kAtOnce + k;
                const int b = part * kPartBlocks + place;
                if (b >= n_blocks) break;
                if (!Raw<kFormat>::kOneHead || k == 0) {
                    d = float_from_f16(raw[k].d);
                    if constexpr (S::kMinimum) m = float_from_f16(raw[k].m);
                }
                to[place * kBlockedWidth] = multiply<kFormat>(raw[k], d, m, input, b);
                if (b + kPartBlocks < n_blocks) raw[k].load(tile, b + kPartBlocks, k, lane);
            }
            named_arrive(kThere + part % 2, kThreads);
        }
        return;
    }
    float acc = 0.0F;
#pragma unroll 1
    for (int part = 0; part < n_parts; ++part) {
        const LinkOf<kFormat>* from = links + part % 2 * (kPartBlocks * kBlockedWidth) + lane;
        const int n = min(kPartBlocks, n_blocks - part * kPartBlocks);
        named_sync(kThere + part % 2, kThreads);
#pragma unroll 8
        for (int i = 0; i < n; ++i) {
            const LinkOf<kFormat> link = from[i * kBlockedWidth];
            acc = fused(link.product, link.d, acc);
            if constexpr (S::kMinimum) acc = fused(link.minimum, link.m, acc);
        }
        if (part + 2 < n_parts) named_arrive(kRead + part % 2, kThreads);
    }
    const int row = static_cast<int>(blockIdx.x) * kBlockedWidth + lane;
    if (row < w.n_rows) put(out, 0, row, acc);
}

template <int kWarps>
struct OneBy {
    template <Format kFormat>
    struct Launcher {
        static void run(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                        Stream stream) {
            const auto kernel = linear_blocked_one_sm80<kFormat, kWarps>;
            constexpr int kSharedBytes =
                kLinkBytes<kFormat, kWarps> + kBlockedOneColumnsMax / kBlock * kInputBytes;
            static_assert(kSharedBytes <= kSharedBytesMax);
            let_have_shared("linear_blocked_one", kernel, kSharedBytes);
            const int shared_bytes = kLinkBytes<kFormat, kWarps> + w.n_cols / kBlock * kInputBytes;
            const dim3 grid(static_cast<unsigned>((w.n_rows + kBlockedWidth - 1) / kBlockedWidth));
            launch_dependent("linear_blocked_one", kernel, grid, Team<kWarps>::kThreads,
                             static_cast<std::size_t>(shared_bytes), stream, w, x, out);
        }
    };
};

}  // namespace

void launch_linear_blocked_one(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                               int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(out.n_tokens == 1 && w.n_cols % kBlock == 0 && w.n_cols <= kBlockedOneColumnsMax);
    const int n_tiles = (w.n_rows + kBlockedWidth - 1) / kBlockedWidth;
    const auto launch = n_tiles > n_multiprocessors
                            ? run_of_blocked<OneBy<kUsualWarps>::Launcher>(w.format)
                            : run_of_blocked<OneBy<kManyWarps>::Launcher>(w.format);
    launch(w, x, out, stream);
}

}  // namespace etalon::backend::cuda

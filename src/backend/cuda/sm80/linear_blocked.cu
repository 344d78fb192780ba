// SPDX-License-Identifier: Apache-2.0
// Linear layers of blocked GGUF formats: integer products of many blocks at once, then the chain of
// each row in order (spec LIN-4 to LIN-6).
#include <cuda_runtime.h>

#include "backend/cpu/linear_layout.h"
#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/convert.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "backend/cuda/sm80/linear_out.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

using cpu::Code;
using cpu::Scales;
using exact::Format;

constexpr int kWarps = 8;  // blocks of 32 that are multiplied at once
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kBlock = exact::kBlock;
constexpr int kQuads = kBlock / 4;
static_assert(kBlockedWidth == kWarpLanes, "a lane has one row of the tile");

/// A format as constants of the compiler.
template <Format kFormat>
struct Shape {
    static constexpr cpu::BlockedForm kForm = cpu::blocked_form(kFormat);
    static constexpr cpu::RecordLayout kLayout = cpu::record_layout(kForm, kBlockedWidth);
    static constexpr bool kFourBits = kForm.code == Code::nibble || kForm.code == Code::table;
    static constexpr int kRecordBlocks = static_cast<int>(kLayout.n_blocks);
    static constexpr int kRecordBytes = static_cast<int>(kLayout.record_bytes);
    static constexpr int kBlockBytes = static_cast<int>(kLayout.block_bytes);
    static constexpr int kBlocks = static_cast<int>(kLayout.blocks);
    static constexpr int kCodes = static_cast<int>(kLayout.codes);
    static constexpr int kOffset = kForm.offset;
    static constexpr bool kMinimum = kForm.has_minimum;
    static constexpr Scales kScales = kForm.scales;
};

/// What the chains of LIN-5 need of a step of 8 blocks.
template <int kTokens, bool kMinimum>
struct Step {
    float products[kWarps][kTokens][kWarpLanes];               // float(p_b)
    float minima[kWarps][kMinimum ? kTokens : 1][kWarpLanes];  // float(s_b)
    float d[kWarps][kWarpLanes];
    float m[kWarps][kWarpLanes];
};

/// Four values of the table of IQ4 by the low 4 bits of each byte (FMT-14).
__device__ int table_values(std::uint32_t codes) {
    constexpr std::uint32_t kTable[4] = {0xBFAD9881U, 0xF6EADDCFU, 0x26190D01U, 0x71594535U};
    std::uint32_t selector = codes & 0x07070707U;
    selector |= selector >> 4;
    selector = __byte_perm(selector, 0, 0x4420);
    const std::uint32_t negative = __byte_perm(kTable[0], kTable[1], selector);
    const std::uint32_t positive = __byte_perm(kTable[2], kTable[3], selector);
    const std::uint32_t high = ((codes & 0x08080808U) >> 3) * 0xFFU;
    return static_cast<int>((negative & ~high) | (positive & high));
}

/// The codes of a lane's row in a block, four a word; without the offset.
template <Format kFormat>
__device__ void load_codes(const std::byte* block, int lane, int (&codes)[kQuads]) {
    using S = Shape<kFormat>;
    const auto* words = reinterpret_cast<const std::uint32_t*>(block + S::kCodes) + lane;
    if constexpr (!S::kFourBits) {
#pragma unroll
        for (int i = 0; i < kQuads; ++i)
            codes[i] = static_cast<int>(__ldg(words + i * kBlockedWidth));
    } else {
#pragma unroll
        for (int i = 0; i < kQuads / 2; ++i) {
            const std::uint32_t pair = __ldg(words + i * kBlockedWidth);
            if constexpr (S::kForm.code == Code::table) {
                codes[2 * i] = table_values(pair & 0x0F0F0F0FU);
                codes[2 * i + 1] = table_values((pair >> 4) & 0x0F0F0F0FU);
            } else {
                codes[2 * i] = static_cast<int>(pair & 0x0F0F0F0FU);
                codes[2 * i + 1] = static_cast<int>((pair >> 4) & 0x0F0F0F0FU);
            }
        }
    }
}

__device__ int signed_byte(const std::byte* p) {
    return *reinterpret_cast<const std::int8_t*>(p);
}

/// p_b and s_b of block `b` for one row a lane and all tokens (LIN-4). The offset of the codes is
/// taken off by the sums of the input: sum (c - offset) x = sum c x - offset sum x.
template <Format kFormat, int kTokens>
__device__ void multiply_block(const std::byte* tile, int b, const ActivationsView& x,
                               const std::size_t (&tokens)[kTokens], int lane, int place,
                               Step<kTokens, Shape<kFormat>::kMinimum>& step) {
    using S = Shape<kFormat>;
    const std::byte* record =
        tile + static_cast<std::size_t>(b / S::kRecordBlocks) * S::kRecordBytes;
    const std::byte* block = record + S::kBlocks + b % S::kRecordBlocks * S::kBlockBytes;
    int codes[kQuads];
    load_codes<kFormat>(block, lane, codes);
    int scales[2] = {1, 1};
    int mins[2] = {1, 1};
    if constexpr (S::kScales != Scales::none) {
        constexpr int kSecond = S::kScales == Scales::halves ? kBlockedWidth : 0;
        scales[0] = signed_byte(block + lane);
        scales[1] = signed_byte(block + kSecond + lane);
        if constexpr (S::kMinimum) {
            constexpr std::size_t kSubMins = S::kLayout.sub_mins;
            mins[0] = signed_byte(block + kSubMins + lane);
            mins[1] = signed_byte(block + kSubMins + kSecond + lane);
        }
    }
    const auto* d = reinterpret_cast<const std::uint16_t*>(record);
    step.d[place][lane] = float_from_f16(d[lane]);
    if constexpr (S::kMinimum) {
        constexpr std::size_t kM = S::kLayout.m;
        step.m[place][lane] =
            float_from_f16(reinterpret_cast<const std::uint16_t*>(record + kM)[lane]);
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
        const auto* q = reinterpret_cast<const int4*>(
            x.block_q + tokens[t] * static_cast<std::size_t>(x.stride) + b * kBlock);
        const std::size_t block_index =
            tokens[t] * static_cast<std::size_t>(x.n_cols / kBlock) + static_cast<std::size_t>(b);
        const short2 sums = reinterpret_cast<const short2*>(x.half_sums)[block_index];
        const int4 low = q[0];
        const int4 high = q[1];
        int first = -S::kOffset * sums.x;
        first = __dp4a(codes[0], low.x, first);
        first = __dp4a(codes[1], low.y, first);
        first = __dp4a(codes[2], low.z, first);
        first = __dp4a(codes[3], low.w, first);
        int second = -S::kOffset * sums.y;
        second = __dp4a(codes[4], high.x, second);
        second = __dp4a(codes[5], high.y, second);
        second = __dp4a(codes[6], high.z, second);
        second = __dp4a(codes[7], high.w, second);
        step.products[place][t][lane] = static_cast<float>(scales[0] * first + scales[1] * second);
        if constexpr (S::kMinimum)
            step.minima[place][t][lane] = static_cast<float>(mins[0] * sums.x + mins[1] * sums.y);
    }
}

/// The chain of one row and token over the blocks of a step (LIN-5, LIN-6).
template <int kTokens, bool kMinimum>
__device__ float chain(const Step<kTokens, kMinimum>& step, int n, const float* scales, int t,
                       int lane, float acc) {
    for (int place = 0; place < n; ++place) {
        const float a = scales[place];
        acc = fused(step.products[place][t][lane], mul(step.d[place][lane], a), acc);
        if constexpr (kMinimum)
            acc = fused(step.minima[place][t][lane], mul(step.m[place][lane], a), acc);
    }
    return acc;
}

/// acc = fma(float(p_b), d_b a_b, acc), then fma(float(s_b), m_b a_b, acc), blocks ascending from
/// +0 (LIN-4 to LIN-6).
///   in:  w.records, tiles of 32 rows (cpu/linear_layout.h), aligned to 4; x.block_q int8
///        [T, stride], x.block_scales [T, K / 32], x.half_sums [T, K / 16]
///   out: out.y
///   tile: 32 rows x kTokens tokens, 8 warps: a warp multiplies every eighth block, then warp t
///         runs the chains of token t; two steps of 8 blocks in shared memory, 37 KB at most
///   floor: the records, of the read speed, up to kTokens tokens
///   supported: any R and T, K a multiple of the format's block
template <Format kFormat, int kTokens>
__global__ void __launch_bounds__(kThreads)
    linear_blocked_sm80(BlockedView w, ActivationsView x, LinearOut out) {
    using S = Shape<kFormat>;
    let_next_kernel_start();
    wait_for_kernels_before();
    enter_group(out);
    static_assert(kTokens <= kWarps, "a warp runs the chains of one token");
    __shared__ Step<kTokens, S::kMinimum> steps[2];
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int n_blocks = w.n_cols / kBlock;
    const int first_token = static_cast<int>(blockIdx.y) * kTokens;
    if (first_token >= out.n_tokens) return;
    const std::byte* tile = w.records + static_cast<std::size_t>(blockIdx.x) *
                                            static_cast<std::size_t>(n_blocks / S::kRecordBlocks) *
                                            S::kRecordBytes;
    std::size_t tokens[kTokens];
#pragma unroll
    for (int t = 0; t < kTokens; ++t)
        tokens[t] = token_of(out, min(first_token + t, out.n_tokens - 1));
    const bool runs_chain = warp < kTokens && first_token + warp < out.n_tokens;
    const float* scales =
        x.block_scales + token_of(out, min(first_token + warp, out.n_tokens - 1)) *
                             static_cast<std::size_t>(n_blocks);
    float acc = 0.0F;
    if (warp < n_blocks)
        multiply_block<kFormat, kTokens>(tile, warp, x, tokens, lane, warp, steps[0]);
    __syncthreads();
    for (int begin = 0, turn = 0; begin < n_blocks; begin += kWarps, turn ^= 1) {
        const int next = begin + kWarps + warp;
        if (next < n_blocks)
            multiply_block<kFormat, kTokens>(tile, next, x, tokens, lane, warp, steps[turn ^ 1]);
        if (runs_chain)
            acc =
                chain(steps[turn], min(kWarps, n_blocks - begin), scales + begin, warp, lane, acc);
        __syncthreads();
    }
    const int row = static_cast<int>(blockIdx.x) * kBlockedWidth + lane;
    if (runs_chain && row < w.n_rows) put(out, first_token + warp, row, acc);
}

template <Format kFormat, int kTokens>
void launch_tokens(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                   Stream stream) {
    const dim3 grid(static_cast<unsigned>((w.n_rows + kBlockedWidth - 1) / kBlockedWidth),
                    static_cast<unsigned>((out.n_tokens + kTokens - 1) / kTokens));
    launch_dependent("linear_blocked", linear_blocked_sm80<kFormat, kTokens>, grid, kThreads, 0,
                     stream, w, x, out);
}

template <Format kFormat>
void launch(const BlockedView& w, const ActivationsView& x, const LinearOut& out, Stream stream) {
    if (out.n_tokens == 1) return launch_tokens<kFormat, 1>(w, x, out, stream);
    launch_tokens<kFormat, kWarps>(w, x, out, stream);
}

using Launch = void (*)(const BlockedView&, const ActivationsView&, const LinearOut&, Stream);

Launch launch_of(Format format) {
    switch (format) {
        case Format::q4_0:
            return launch<Format::q4_0>;
        case Format::q4_1:
            return launch<Format::q4_1>;
        case Format::q5_0:
            return launch<Format::q5_0>;
        case Format::q5_1:
            return launch<Format::q5_1>;
        case Format::q8_0:
            return launch<Format::q8_0>;
        case Format::q2_k:
            return launch<Format::q2_k>;
        case Format::q3_k:
            return launch<Format::q3_k>;
        case Format::q4_k:
            return launch<Format::q4_k>;
        case Format::q5_k:
            return launch<Format::q5_k>;
        case Format::q6_k:
            return launch<Format::q6_k>;
        case Format::iq4_nl:
            return launch<Format::iq4_nl>;
        case Format::iq4_xs:
            return launch<Format::iq4_xs>;
        default:
            ETALON_ASSERT(false);
            return nullptr;
    }
}

}  // namespace

void launch_linear_blocked(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                           Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && w.n_cols % kBlock == 0);
    launch_of(w.format)(w, x, out, stream);
}

}  // namespace etalon::backend::cuda

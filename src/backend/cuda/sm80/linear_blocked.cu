// SPDX-License-Identifier: Apache-2.0
// Linear layers of blocked GGUF formats on the integer tensor cores (spec LIN-4 to LIN-6). One
// instruction makes p_b of a block of 32 elements for 16 tokens and 8 rows; each thread runs the
// chains of its tokens and rows over the blocks, in order, in its registers.
//
// A thread with g = lane / 4 and c = lane % 4 multiplies the quads (four elements) c and c + 4 of
// tokens g and g + 8 with those of row g, and gets the sums of its tokens with rows 2 c and 2 c
// + 1. Example: thread 6 (g = 1, c = 2) holds elements 8 to 11 and 24 to 27 of tokens 1 and 9 and
// of row 1, and gets the sums of tokens 1 and 9 with rows 4 and 5.
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/convert.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/mma.cuh"
#include "backend/cuda/sm80/blocked_ring.cuh"
#include "backend/cuda/sm80/linear_out.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

/// The row of a tile whose products with piece j are in column 2 c + i. With four pieces the rows
/// of a thread are 8 c..8 c + 7.
template <typename Tile>
__device__ int row_of(int row_warp, int c, int j, int i) {
    return Tile::kPieces == 1 ? row_warp % 4 * kPieceRows + 2 * c + i : 8 * c + 4 * i + j;
}

/// Numbers of the thread's rows of a tile, as floats: [j][i].
template <typename Tile>
__device__ void load_halves(const std::byte* from, int row_warp, int c,
                            float (&to)[Tile::kPieces][2]) {
    if constexpr (Tile::kPieces == 1) {
        const int row = row_of<Tile>(row_warp, c, 0, 0);
        const auto pair = *reinterpret_cast<const std::uint32_t*>(from + 2 * row);
        to[0][0] = float_from_f16(static_cast<std::uint16_t>(pair));
        to[0][1] = float_from_f16(static_cast<std::uint16_t>(pair >> 16));
    } else {
        const uint4 all = *reinterpret_cast<const uint4*>(from + 16 * c);
        const std::uint32_t words[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
        for (int k = 0; k < 8; ++k)
            to[k % 4][k / 4] =
                float_from_f16(static_cast<std::uint16_t>(words[k / 2] >> (k % 2 * 16)));
    }
}
template <typename Tile, typename Number>
__device__ void load_bytes(const std::byte* from, int row_warp, int c,
                           Number (&to)[Tile::kPieces][2]) {
    const auto at = [](std::uint32_t word, int k) {
        return static_cast<Number>(static_cast<std::int8_t>(word >> (8 * k)));
    };
    if constexpr (Tile::kPieces == 1) {
        const int row = row_of<Tile>(row_warp, c, 0, 0);
        const std::uint32_t pair = *reinterpret_cast<const std::uint16_t*>(from + row);
        to[0][0] = at(pair, 0);
        to[0][1] = at(pair, 1);
    } else {
        const uint2 all = *reinterpret_cast<const uint2*>(from + 8 * c);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            to[j][0] = at(all.x, j);
            to[j][1] = at(all.y, j);
        }
    }
}

/// The codes of the thread's rows in a block, without the offset: two quads a row (the picture
/// above).
template <Format kFormat, typename Tile>
__device__ void load_codes(const std::byte* codes, int row_warp, int g, int c,
                           std::uint32_t (&to)[Tile::kPieces][2]) {
    using S = BlockedShape<kFormat>;
    // Word `word` of the rows: row 4 g + j in a run of its own, or the warp's row g.
    const auto words = [&](int word, std::uint32_t(&row)[Tile::kPieces]) {
        const int run = Tile::kPieces == 1 ? row_warp % 4 * 2 + g / 4 : g;
        const std::byte* from = codes + word * kWordBytes + (run ^ spread(word)) * kRun;
        if constexpr (Tile::kPieces == 1) {
            row[0] = *reinterpret_cast<const std::uint32_t*>(from + g % 4 * 4);
        } else {
            const uint4 all = *reinterpret_cast<const uint4*>(from);
            row[0] = all.x;
            row[1] = all.y;
            row[2] = all.z;
            row[3] = all.w;
        }
    };
    const auto values = [](std::uint32_t nibbles) {
        return S::kForm.code == Code::table ? table_values(nibbles) : nibbles;
    };
    constexpr std::uint32_t kLow = 0x0F0F0F0FU;
    std::uint32_t first[Tile::kPieces];
    std::uint32_t second[Tile::kPieces];
    if constexpr (S::kFourBits) {
        words(c / 2, first);
        words(2 + c / 2, second);
        const int shift = c % 2 * 4;
#pragma unroll
        for (int j = 0; j < Tile::kPieces; ++j) {
            to[j][0] = values(first[j] >> shift & kLow);
            to[j][1] = values(second[j] >> shift & kLow);
        }
    } else {
        words(c, first);
        words(4 + c, second);
#pragma unroll
        for (int j = 0; j < Tile::kPieces; ++j) {
            to[j][0] = first[j];
            to[j][1] = second[j];
        }
    }
}

constexpr int kWhole = 1 << 24;  // integers below it are binary32 numbers

/// d, m and their factors for the thread's rows in a block.
template <Format kFormat, typename Tile>
struct BlockedFactors {
    using S = BlockedShape<kFormat>;
    float d[Tile::kPieces][2];
    float m[S::kMinimum ? Tile::kPieces : 1][2];
    float scales[S::kShared ? Tile::kPieces : 1][2];
    int half_scales[2][S::kHalves ? Tile::kPieces : 1][2];
    float mins[2][S::kMinimum && (S::kShared || S::kHalves) ? Tile::kPieces : 1][2];

    __device__ void load_head(const std::byte* head, int row_warp, int c) {
        load_halves<Tile>(head, row_warp, c, d);
        if constexpr (S::kMinimum) load_halves<Tile>(head + S::kM, row_warp, c, m);
    }
    __device__ void load_block(const std::byte* block, int row_warp, int c) {
        if constexpr (S::kShared) load_bytes<Tile>(block, row_warp, c, scales);
        if constexpr (S::kHalves) {
            load_bytes<Tile>(block, row_warp, c, half_scales[0]);
            load_bytes<Tile>(block + kBlockedWidth, row_warp, c, half_scales[1]);
        }
        if constexpr (S::kMinimum && (S::kShared || S::kHalves))
            load_bytes<Tile>(block + S::kSubMins, row_warp, c, mins[0]);
        if constexpr (S::kMinimum && S::kHalves)
            load_bytes<Tile>(block + S::kSubMins + kBlockedWidth, row_warp, c, mins[1]);
    }
    /// float(p_b) from the products of the block or of its halves. The products with scales are
    /// integers that binary32 has. They may be -0 where the rule has +0, which changes nothing: no
    /// sum of a chain is -0, as it starts at +0 and all terms are multiples of 2^-149.
    static_assert(63 * 32 * 31 * 127 < kWhole && 2 * 128 * 16 * 32 * 127 < kWhole &&
                      32 * 32 * 127 * 127 < kWhole,
                  "Q5_K, Q6_K, IQ4_XS");
    __device__ float product(int whole, int other, int j, int i) const {
        if constexpr (S::kShared) return mul(static_cast<float>(whole), scales[j][i]);
        if constexpr (S::kHalves)
            return static_cast<float>(half_scales[0][j][i] * whole + half_scales[1][j][i] * other);
        return static_cast<float>(whole);
    }
    /// float(s_b) from the sums of a token, whole or of the halves; exact as well.
    __device__ float minimum(float whole, float other, int j, int i) const {
        if constexpr (S::kShared) return mul(mins[0][j][i], whole);
        if constexpr (S::kHalves) return fused(mins[1][j][i], other, mul(mins[0][j][i], whole));
        return whole;
    }
};

/// Tokens of a thread in a piece: g, and g + 8.
template <typename Tile>
inline constexpr int kMyTokens = Tile::kFew ? 1 : 2;

/// The chains of a thread: its tokens and its rows.
template <typename Tile>
struct BlockedChains {
    float acc[Tile::kTokenPieces][kMyTokens<Tile>][Tile::kPieces][2];
};

/// Products of a piece: of the block, or of each of its halves.
struct BlockedProducts {
    int first[4];
    int second[4];
};

/// The products of 16 tokens with 8 rows; sums start at `from`.
template <Format kFormat>
__device__ void multiply_piece(const std::uint32_t (&quads)[4], const std::uint32_t (&codes)[2],
                               const int (&from)[2][4], BlockedProducts& products) {
    using S = BlockedShape<kFormat>;
    if constexpr (S::kHalves && S::kOffset != 0) {
        mma_i8_16x8x16(products.first, quads[0], quads[1], codes[0], from[0]);
        mma_i8_16x8x16(products.second, quads[2], quads[3], codes[1], from[1]);
    } else if constexpr (S::kHalves) {
        mma_i8_16x8x16_first(products.first, quads[0], quads[1], codes[0]);
        mma_i8_16x8x16_first(products.second, quads[2], quads[3], codes[1]);
    } else if constexpr (S::kOffset != 0) {
        mma_i8_16x8x32(products.first, quads[0], quads[1], quads[2], quads[3], codes[0], codes[1],
                       from[0]);
    } else {
        mma_i8_16x8x32_first(products.first, quads[0], quads[1], quads[2], quads[3], codes[0],
                             codes[1]);
    }
}

/// A token of a thread.
__device__ inline int token_of_piece(int first_token, int piece, int t, int g) {
    return first_token + piece * kPieceTokens + 8 * t + g;
}

/// What the products of block i need of the tokens of a piece.
template <Format kFormat, typename Tile>
struct BlockedInputs {
    using S = BlockedShape<kFormat>;
    using Stage = BlockedStage<kFormat, Tile>;
    std::uint32_t quads[4];  // c of both tokens, c + 4 of both
    int from[2][4] = {};     // where the sums start: [half]

    /// The offset of the codes is taken off by the sums of the input:
    /// sum (q - offset) x = sum q x - offset sum x.
    __device__ void load(const std::byte* stage, int i, int first_token, int lane) {
        constexpr int kOffsetByte = -S::kOffset & 0xFF;
        const std::byte* codes = stage + Stage::kCodes + i * kBlock;
        if constexpr (Tile::kFew) {
            const int row = first_token + lane % 8;
            std::uint32_t both[2];
            load_two_matrices(both, codes + row * Stage::kCodeRow + (lane & 8) / 8 * kRun);
            quads[0] = quads[1] = both[0];  // there are no tokens from g + 8 on
            quads[2] = quads[3] = both[1];
        } else {
            const int row = first_token + lane % 16;
            load_matrices(quads, codes + row * Stage::kCodeRow + lane / 16 * kRun);
        }
        if constexpr (S::kOffset != 0) {
            const int2 both = *reinterpret_cast<const int2*>(
                stage + Stage::kSums + i * Stage::kScaleRow + place_of(first_token + lane / 4) * 4);
#pragma unroll
            for (int t = 0; t < kMyTokens<Tile>; ++t) {
                const int halves = t == 0 ? both.x : both.y;
                from[0][2 * t] = from[0][2 * t + 1] =
                    __dp2a_lo(halves, S::kHalves ? kOffsetByte : kOffsetByte * 0x101, 0);
                if constexpr (S::kHalves)
                    from[1][2 * t] = from[1][2 * t + 1] = __dp2a_lo(halves, kOffsetByte << 8, 0);
            }
        }
    }
};

/// What the chains need of the tokens of a piece in block i.
template <Format kFormat, typename Tile>
struct BlockedScales {
    using S = BlockedShape<kFormat>;
    using Stage = BlockedStage<kFormat, Tile>;
    float a[2];
    float sums[2][2];  // of the halves, or of the whole: [half][token]

    __device__ void load(const std::byte* stage, int i, int first_token, int lane) {
        const std::byte* mine =
            stage + Stage::kScales + i * Stage::kScaleRow + place_of(first_token + lane / 4) * 4;
        const float2 both = *reinterpret_cast<const float2*>(mine);
        a[0] = both.x;
        a[1] = both.y;
        if constexpr (S::kMinimum) {
            const int2 of_both =
                *reinterpret_cast<const int2*>(mine + (Stage::kSums - Stage::kScales));
#pragma unroll
            for (int t = 0; t < kMyTokens<Tile>; ++t) {
                const int halves = t == 0 ? of_both.x : of_both.y;
                sums[0][t] = static_cast<float>(__dp2a_lo(halves, S::kHalves ? 1 : 0x101, 0));
                if constexpr (S::kHalves) sums[1][t] = static_cast<float>(halves >> 16);
            }
        }
    }
    /// One block of the chains (LIN-4 to LIN-6).
    __device__ void add(const BlockedFactors<kFormat, Tile>& factors,
                        const BlockedProducts& products, int j,
                        float (&acc)[kMyTokens<Tile>][Tile::kPieces][2]) const {
#pragma unroll
        for (int t = 0; t < kMyTokens<Tile>; ++t) {
#pragma unroll
            for (int k = 0; k < 2; ++k) {
                float& sum = acc[t][j][k];
                sum = fused(
                    factors.product(products.first[2 * t + k], products.second[2 * t + k], j, k),
                    mul(factors.d[j][k], a[t]), sum);
                if constexpr (S::kMinimum)
                    sum = fused(factors.minimum(sums[0][t], sums[1][t], j, k),
                                mul(factors.m[j][k], a[t]), sum);
            }
        }
    }
};

/// Where a warp stands in a thread block, and a thread in its warp.
struct BlockedPlace {
    int tile;
    int row_warp;
    int first_token;
    int lane;
    int g;
    int c;
};

/// The chains over n blocks of a stage from `first` on; of few tokens all products come ahead of
/// the chains, which wait for each other.
template <int kBlocks, Format kFormat, typename Tile>
__device__ void add_blocks(const std::byte* stage, int first, const BlockedPlace& at,
                           BlockedFactors<kFormat, Tile>& factors, BlockedChains<Tile>& chains) {
    using S = BlockedShape<kFormat>;
    using Stage = BlockedStage<kFormat, Tile>;
    const std::byte* heads = stage + at.tile * Stage::kTileBytes;
    const auto block_of = [&](int i) { return heads + Stage::kBlocks + i * S::kBlockBytes; };
    const auto load_factors = [&](int i) {
        if constexpr (S::kRecordBlocks == 1)
            factors.load_head(heads + i * S::kHeadBytes, at.row_warp, at.c);
        factors.load_block(block_of(i), at.row_warp, at.c);
    };
    if constexpr (Tile::kFewProducts) {
        BlockedProducts products[kBlocks][Tile::kTokenPieces][Tile::kPieces];
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
            std::uint32_t codes[Tile::kPieces][2];
            load_codes<kFormat, Tile>(block_of(first + i) + S::kCodes, at.row_warp, at.g, at.c,
                                      codes);
#pragma unroll
            for (int piece = 0; piece < Tile::kTokenPieces; ++piece) {
                BlockedInputs<kFormat, Tile> inputs;
                inputs.load(stage, first + i, at.first_token + piece * kPieceTokens, at.lane);
#pragma unroll
                for (int j = 0; j < Tile::kPieces; ++j)
                    multiply_piece<kFormat>(inputs.quads, codes[j], inputs.from,
                                            products[i][piece][j]);
            }
        }
#pragma unroll
        for (int i = 0; i < kBlocks; ++i) {
            load_factors(first + i);
#pragma unroll
            for (int piece = 0; piece < Tile::kTokenPieces; ++piece) {
                BlockedScales<kFormat, Tile> scales;
                scales.load(stage, first + i, at.first_token + piece * kPieceTokens, at.lane);
#pragma unroll
                for (int j = 0; j < Tile::kPieces; ++j)
                    scales.add(factors, products[i][piece][j], j, chains.acc[piece]);
            }
        }
    } else {
#pragma unroll
        for (int i = first; i < first + kBlocks; ++i) {
            std::uint32_t codes[Tile::kPieces][2];
            load_codes<kFormat, Tile>(block_of(i) + S::kCodes, at.row_warp, at.g, at.c, codes);
            load_factors(i);
#pragma unroll
            for (int piece = 0; piece < Tile::kTokenPieces; ++piece) {
                BlockedInputs<kFormat, Tile> inputs;
                inputs.load(stage, i, at.first_token + piece * kPieceTokens, at.lane);
                BlockedScales<kFormat, Tile> scales;
                scales.load(stage, i, at.first_token + piece * kPieceTokens, at.lane);
#pragma unroll
                for (int j = 0; j < Tile::kPieces; ++j) {
                    BlockedProducts products;
                    multiply_piece<kFormat>(inputs.quads, codes[j], inputs.from, products);
                    scales.add(factors, products, j, chains.acc[piece]);
                }
            }
        }
    }
}

/// Blocks whose products a thread holds at once.
template <Format kFormat, typename Tile>
constexpr int kBlocksAtOnce = !Tile::kFewProducts                                     ? 1
                              : Tile::kPieces * Tile::kTokenPieces == 1               ? 8
                              : Tile::kPieces == 1 || !BlockedShape<kFormat>::kHalves ? 4
                                                                                      : 2;

/// The chains over the n blocks of a stage; all of it where kWhole.
template <bool kWhole, Format kFormat, typename Tile>
__device__ void add_stage(const std::byte* stage, int n, const BlockedPlace& at,
                          BlockedChains<Tile>& chains) {
    using S = BlockedShape<kFormat>;
    using Stage = BlockedStage<kFormat, Tile>;
    constexpr int kAtOnce = kWhole ? kBlocksAtOnce<kFormat, Tile> : 1;
    BlockedFactors<kFormat, Tile> factors;
    if constexpr (S::kRecordBlocks > 1)
        factors.load_head(stage + at.tile * Stage::kTileBytes, at.row_warp, at.c);
#pragma unroll 1
    for (int i = 0; i < (kWhole ? Tile::kStageBlocks : n); i += kAtOnce)
        add_blocks<kAtOnce, kFormat, Tile>(stage, i, at, factors, chains);
}

/// Rows and tokens of a warp, all blocks of them.
template <Format kFormat, typename Tile>
__device__ void run_chains(BlockedRing<kFormat, Tile>& ring, int n_tokens, int n_rows,
                           int first_token, const LinearOut& out) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int row_warp = warp % Tile::kRowWarps;
    const BlockedPlace at{Tile::kPieces == 1 ? row_warp / 4 : row_warp,
                          row_warp,
                          warp / Tile::kRowWarps * (Tile::kTokenPieces * kPieceTokens),
                          lane,
                          lane / 4,
                          lane % 4};
    BlockedChains<Tile> chains = {};
    ring.run([&](const std::byte* stage, int n) {
        if (at.first_token >= n_tokens) return;
        if (ring.kAllWhole || n >= Tile::kStageBlocks) {
            add_stage<true, kFormat, Tile>(stage, n, at, chains);
        } else {
            add_stage<false, kFormat, Tile>(stage, n, at, chains);
        }
    });
    const int first_row = (static_cast<int>(blockIdx.x) * Tile::kTiles + at.tile) * kBlockedWidth;
#pragma unroll
    for (int piece = 0; piece < Tile::kTokenPieces; ++piece) {
#pragma unroll
        for (int t = 0; t < kMyTokens<Tile>; ++t) {
            const int token = token_of_piece(at.first_token, piece, t, at.g);
            if (token >= n_tokens) continue;
#pragma unroll
            for (int k = 0; k < 2 * Tile::kPieces; ++k) {
                const int j = k % Tile::kPieces;
                const int i = k / Tile::kPieces;
                const int row = first_row + row_of<Tile>(row_warp, at.c, j, i);
                if (row < n_rows) put(out, first_token + token, row, chains.acc[piece][t][j][i]);
            }
        }
    }
}

/// acc = fma(float(p_b), d_b a_b, acc), then fma(float(s_b), m_b a_b, acc), blocks ascending from
/// +0 (LIN-4 to LIN-6), for kRows rows and kTokens tokens a thread block.
template <Format kFormat, typename Tile>
__device__ void multiply_blocked(const BlockedView& w, const ActivationsView& x, LinearOut& out) {
    using S = BlockedShape<kFormat>;
    extern __shared__ int4 bytes[];
    std::byte* shared = keep_shared(bytes);
    auto* rows = reinterpret_cast<TokenRows*>(shared + BlockedStage<kFormat, Tile>::kRows);
    let_next_kernel_start();
    wait_for_kernels_before();
    enter_group(out);
    const int first_token = static_cast<int>(blockIdx.y) * Tile::kTokens;
    const int n_tokens = min(Tile::kTokens, out.n_tokens - first_token);
    if (n_tokens <= 0) return;
    const int thread = static_cast<int>(threadIdx.x);
    const int n_blocks = w.n_cols / kBlock;
    if (thread < n_tokens) {
        const std::uint64_t token = token_of(out, first_token + thread);
        rows[thread] = {token * static_cast<std::uint64_t>(x.stride),
                        token * static_cast<std::uint64_t>(n_blocks) * 4};
    }
    __syncthreads();
    const std::uint32_t tile_bytes =
        static_cast<std::uint32_t>(n_blocks / S::kRecordBlocks) * S::kRecordBytes;
    const int first_tile = static_cast<int>(blockIdx.x) * Tile::kTiles;
    const int n_tiles = (w.n_rows + kBlockedWidth - 1) / kBlockedWidth;
    BlockedCopies<kFormat, Tile> copies(
        w.records + static_cast<std::size_t>(first_tile) * tile_bytes, tile_bytes,
        min(Tile::kTiles, n_tiles - first_tile) - 1, x, rows, n_tokens);
    BlockedRing<kFormat, Tile> ring(shared, copies, n_blocks);
    run_chains<kFormat, Tile>(ring, n_tokens, w.n_rows, first_token, out);
}

using Wide = BlockedTile<128, 4, 4, 4, 4, 2>;
using Of64 = BlockedTile<64, 1, 1, 2, 8, 3>;
using Of16 = BlockedTile<16, 1, 1, 1, 8, 5>;
using Of8 = BlockedTile<8, 1, 1, 1, 8, 6>;
// A warp has all rows of its tile, and is a thread block: the fewest instructions, where each
// multiprocessor has more than kWarpTiles of them.
using Warp16 = BlockedTile<16, 1, 4, 1, 8, 3>;
using Warp8 = BlockedTile<8, 1, 4, 1, 8, 3>;
constexpr int kWarpTiles = 4;

/// y = w x.
///   in:  w.records, tiles of 32 rows (cpu/linear_layout.h), aligned to 16; x.block_q int8
///        [T, stride], x.block_scales [T, K / 32], x.half_sums [T, K / 16]
///   out: out.y
///   tile: 128 rows x 128 tokens, a warp 32 rows and 64 tokens, two stages of 4 blocks in shared
///         memory; or 32 rows x 8, 16 or 64 tokens, a warp 8 or all rows, three to six stages of 8;
///         93 KB at most
///   floor: the records, of the read speed; of many tokens, 3 instructions of the float pipes a
///          token, row and block, 7 with sub-scales and minima
///   supported: any R and T, K a multiple of the format's block
template <Format kFormat, typename Tile>
__global__ void __launch_bounds__(Tile::kThreads, Tile::kTiles > 1 ? 2 : 1)
    linear_blocked_sm80(BlockedView w, ActivationsView x, LinearOut out) {
    multiply_blocked<kFormat, Tile>(w, x, out);
}

template <typename Tile>
struct By {
    template <Format kFormat>
    struct Launcher {
        static void run(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                        Stream stream) {
            const auto kernel = linear_blocked_sm80<kFormat, Tile>;
            constexpr int kSharedBytes = BlockedStage<kFormat, Tile>::kSharedBytes;
            static_assert(kSharedBytes <= kSharedBytesMax);
            let_have_shared("linear_blocked", kernel, kSharedBytes);
            const dim3 grid(
                static_cast<unsigned>((w.n_rows + Tile::kRows - 1) / Tile::kRows),
                static_cast<unsigned>((out.n_tokens + Tile::kTokens - 1) / Tile::kTokens));
            launch_dependent("linear_blocked", kernel, grid, Tile::kThreads, kSharedBytes, stream,
                             w, x, out);
        }
    };
};

using Run = void (*)(const BlockedView&, const ActivationsView&, const LinearOut&, Stream);

/// The kernel for so many tokens. More than 16 take the largest tiles where each multiprocessor has
/// one of them.
Run choose(const BlockedView& w, int n_tokens, int n_multiprocessors) {
    const bool many_rows = w.n_rows > kWarpTiles * kBlockedWidth * n_multiprocessors;
    if (n_tokens <= Of8::kTokens)
        return many_rows ? run_of_blocked<By<Warp8>::Launcher>(w.format)
                         : run_of_blocked<By<Of8>::Launcher>(w.format);
    if (n_tokens <= Of16::kTokens)
        return many_rows ? run_of_blocked<By<Warp16>::Launcher>(w.format)
                         : run_of_blocked<By<Of16>::Launcher>(w.format);
    const int n_wide = (w.n_rows + Wide::kRows - 1) / Wide::kRows *
                       ((n_tokens + Wide::kTokens - 1) / Wide::kTokens);
    return n_wide < n_multiprocessors ? run_of_blocked<By<Of64>::Launcher>(w.format)
                                      : run_of_blocked<By<Wide>::Launcher>(w.format);
}

}  // namespace

void launch_linear_blocked(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                           int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && w.n_cols % kBlock == 0);
    if (out.n_tokens == 1 && w.n_cols <= kBlockedOneColumnsMax)
        return launch_linear_blocked_one(w, x, out, n_multiprocessors, stream);
    choose(w, out.n_tokens, n_multiprocessors)(w, x, out, stream);
}

}  // namespace etalon::backend::cuda

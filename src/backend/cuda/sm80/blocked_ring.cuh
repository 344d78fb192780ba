// SPDX-License-Identifier: Apache-2.0
// Records of blocked GGUF formats and the input of tokens through a ring in shared memory.
#pragma once

#include <algorithm>
#include <cstddef>

#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/sm80/blocked_shape.cuh"

namespace etalon::backend::cuda {

inline constexpr int kRun = 16;                       // bytes of a copy
inline constexpr int kWordBytes = 4 * kBlockedWidth;  // a word of codes of each row of a tile
inline constexpr int kPieceRows = 8;                  // of an instruction
inline constexpr int kPieceTokens = 16;

/// What a thread block makes, and how. A warp has kPieces * 8 rows and kTokenPieces * 16 tokens:
/// all rows of a tile, or (kPieces = 1) a quarter of them.
template <int kTokens_, int kTiles_, int kPieces_, int kTokenPieces_, int kStageBlocks_,
          int kStages_>
struct BlockedTile {
    static constexpr int kTokens = kTokens_;
    static constexpr int kTiles = kTiles_;  // of 32 rows
    static constexpr int kPieces = kPieces_;
    static constexpr int kTokenPieces = kTokenPieces_;
    static constexpr int kStageBlocks = kStageBlocks_;  // of 32 elements
    static constexpr int kStages = kStages_;
    static constexpr bool kFew = kTokens <= kPieceTokens / 2;  // half of an instruction's
    static constexpr int kPlaces = kFew ? kPieceTokens : kTokens;
    static constexpr int kRowWarps = kTiles * kBlockedWidth / (kPieces * kPieceRows);
    static constexpr int kTokenWarps =
        (kTokens + kTokenPieces * kPieceTokens - 1) / (kTokenPieces * kPieceTokens);
    static constexpr int kWarps = kRowWarps * kTokenWarps;
    static constexpr int kAhead = kStages - 1;  // stages that copies are under way to
    static constexpr int kThreads = kWarps * kWarpLanes;
    static constexpr int kRows = kTiles * kBlockedWidth;
    static constexpr bool kFewProducts = kPieces * kTokenPieces <= 4;  // of a block and a warp
    static_assert(kPieces == 1 || kPieces == 4, "rows of a warp");
    static_assert(kThreads >= kTokens, "a thread finds where a token's input starts");
};

/// Where the inputs of a token start, in bytes: codes, and scales as well as sums, which have four
/// bytes a block both.
struct TokenRows {
    std::uint64_t codes;
    std::uint64_t scales;
};

/// A stage of the ring in shared memory, in bytes: kStageBlocks blocks of each tile, codes of each
/// token, scales and sums of each block at place_of() of the tokens. A tile has the heads of its
/// records, then the blocks; the runs of a word of codes stand where spread() says. Rows are so
/// long that threads read other banks.
template <Format kFormat, typename Tile>
struct BlockedStage {
    using S = BlockedShape<kFormat>;
    static_assert(S::kRecordBlocks == 1 || S::kRecordBlocks % Tile::kStageBlocks == 0);
    static constexpr int kHeads = S::kRecordBlocks == 1 ? Tile::kStageBlocks : 1;
    static constexpr int kBlocks = kHeads * S::kHeadBytes;
    static constexpr int kTileBytes = kBlocks + Tile::kStageBlocks * S::kBlockBytes;
    static constexpr int kCodeRow = Tile::kStageBlocks * kBlock + kRun;
    static constexpr int kScaleRow = (Tile::kPlaces + 8) * 4;  // of a block
    static constexpr int kCodes = Tile::kTiles * kTileBytes;
    static constexpr int kScales = kCodes + Tile::kTokens * kCodeRow;
    static constexpr int kSums = kScales + Tile::kStageBlocks * kScaleRow;
    static constexpr int kBytes = kSums + (S::kNeedsSums ? Tile::kStageBlocks * kScaleRow : 0);
    /// Where the tokens' inputs start stands behind the ring.
    static constexpr int kRows = Tile::kStages * kBytes;
    static constexpr int kSharedBytes = kRows + Tile::kTokens * static_cast<int>(sizeof(TokenRows));
};

/// What the number of a run of word `word` of a block is changed by, so that the threads of a warp
/// read all banks: they read four words at once, two runs of each.
__device__ constexpr int spread(int word) {
    return 2 * word & 7;
}

/// Scales and sums of a thread's tokens g and g + 8 stand beside each other.
__device__ constexpr int place_of(int token) {
    return (token & ~15) | (token & 7) << 1 | (token >> 3 & 1);
}

/// Copies the blocks of one stage after the other. A thread has the same places in each.
template <Format kFormat, typename Tile>
class BlockedCopies {
    using S = BlockedShape<kFormat>;
    using Stage = BlockedStage<kFormat, Tile>;
    // A warp copies the same block of every kTileStep-th tile.
    static constexpr int kTileStep = std::max(1, Tile::kWarps / Tile::kStageBlocks);
    static constexpr int kBlockStep = std::min(Tile::kWarps, Tile::kStageBlocks);
    static_assert(Tile::kStageBlocks % kBlockStep == 0 && Tile::kWarps % kBlockStep == 0 &&
                  Tile::kTiles % kTileStep == 0);
    static constexpr int kNextBlock = S::kRecordBlocks == 1 ? S::kRecordBytes : S::kBlockBytes;
    static constexpr int kCodeRuns = (S::kBlockBytes - S::kCodes) / kRun;
    static constexpr int kInputRuns = Tile::kStageBlocks * kBlock / kRun;
    static constexpr int kCodeStep = Tile::kThreads / kInputRuns;  // tokens
    static constexpr int kScaleStep = Tile::kThreads / Tile::kStageBlocks;
    // Where the inputs of a thread's tokens start stays in registers where there are enough.
    static constexpr bool kKeepsRows = Tile::kFewProducts;
    static constexpr int kCodeRows = kKeepsRows ? (Tile::kTokens - 1) / kCodeStep + 1 : 1;
    static constexpr int kScaleRows = kKeepsRows ? (Tile::kTokens - 1) / kScaleStep + 1 : 1;

  public:
    __device__ BlockedCopies(const std::byte* tiles, std::uint32_t tile_bytes, int last_tile,
                             const ActivationsView& x, const TokenRows* rows, int n_tokens)
        : n_tokens_(n_tokens),
          last_tile_(last_tile),
          tile_bytes_(tile_bytes),
          thread_(static_cast<int>(threadIdx.x)),
          lane_(thread_ % kWarpLanes),
          block_(thread_ / kWarpLanes % kBlockStep),
          tile_(thread_ / kWarpLanes / kBlockStep),
          rows_(rows),
          record_(tiles + block_ * kNextBlock + lane_ * kRun),
          codes_(reinterpret_cast<const std::byte*>(x.block_q) + thread_ % kInputRuns * kRun),
          scales_(reinterpret_cast<const std::byte*>(x.block_scales) +
                  thread_ % Tile::kStageBlocks * 4),
          sums_(reinterpret_cast<const std::byte*>(x.half_sums) +
                thread_ % Tile::kStageBlocks * 4) {
        if constexpr (kKeepsRows) {
#pragma unroll
            for (int i = 0; i < kCodeRows; ++i)
                code_rows_[i] = rows[min(thread_ / kInputRuns + i * kCodeStep, n_tokens - 1)].codes;
#pragma unroll
            for (int i = 0; i < kScaleRows; ++i)
                scale_rows_[i] =
                    rows[min(thread_ / Tile::kStageBlocks + i * kScaleStep, n_tokens - 1)].scales;
        }
    }

    /// Starts the copies of the next n blocks, all of a stage where kWhole.
    template <bool kWhole>
    __device__ void start(std::byte* stage, int n) {
        copy_weights<kWhole>(stage, n);
        copy_inputs<kWhole>(stage, n);
        constexpr int kStageRecords = std::max(1, Tile::kStageBlocks / S::kRecordBlocks);
        if constexpr (S::kRecordBlocks > Tile::kStageBlocks) {
            in_record_ += Tile::kStageBlocks * S::kBlockBytes;
            if (in_record_ == S::kRecordBlocks * S::kBlockBytes) {
                in_record_ = 0;
                record_ += S::kRecordBytes;
            }
        } else {
            record_ += kStageRecords * S::kRecordBytes;
        }
        codes_ += Tile::kStageBlocks * kBlock;
        scales_ += Tile::kStageBlocks * 4;
        sums_ += Tile::kStageBlocks * 4;
    }

  private:
    template <bool kWhole>
    __device__ void copy_weights(std::byte* stage, int n) const {
        std::byte* to_thread = stage + block_ * S::kBlockBytes + lane_ * kRun;
#pragma unroll
        for (int step = 0; step < Tile::kTiles; step += kTileStep) {
            const auto skip = static_cast<std::uint32_t>(min(tile_ + step, last_tile_));
            const std::byte* head = record_ + std::uint64_t{skip} * tile_bytes_;
            std::byte* to_tile = to_thread + (tile_ + step) * Stage::kTileBytes;
#pragma unroll
            for (int k = 0; k < Tile::kStageBlocks; k += kBlockStep) {
                if (!kWhole && block_ + k >= n) continue;
                const std::byte* block = head + S::kHeadBytes + in_record_ + k * kNextBlock;
                std::byte* to = to_tile + Stage::kBlocks + k * S::kBlockBytes;
#pragma unroll
                for (int run = 0; run < kCodeRuns; run += kWarpLanes) {
                    const int word = (run + lane_) / 8;
                    const int moved = (lane_ % 8 ^ spread(word)) - lane_ % 8;
                    copy_async_16(to + S::kCodes + (run + moved) * kRun,
                                  block + S::kCodes + run * kRun);
                }
                if (S::kCodes > 0 && lane_ < S::kCodes / kRun) copy_async_16(to, block);
            }
            if (lane_ >= S::kHeadBytes / kRun) continue;
            if constexpr (S::kRecordBlocks == 1) {
#pragma unroll
                for (int k = 0; k < Tile::kStageBlocks; k += kBlockStep) {
                    if (kWhole || block_ + k < n)
                        copy_async_16(
                            to_tile + k * S::kHeadBytes + block_ * (S::kHeadBytes - S::kBlockBytes),
                            head + k * kNextBlock);
                }
            } else if (block_ == 0) {
                copy_async_16(to_tile, head);
            }
        }
    }
    template <bool kWhole>
    __device__ void copy_inputs(std::byte* stage, int n) const {
        const int run = thread_ % kInputRuns;
        if (kWhole || run < n * (kBlock / kRun)) {
            std::byte* to = stage + Stage::kCodes + run * kRun;
#pragma unroll
            for (int k = 0; k < Tile::kTokens; k += kCodeStep) {
                const int token = thread_ / kInputRuns + k;
                if (token >= n_tokens_) continue;
                const std::uint64_t from =
                    kKeepsRows ? code_rows_[k / kCodeStep] : rows_[token].codes;
                copy_async_16(to + token * Stage::kCodeRow, codes_ + from);
            }
        }
        const int i = thread_ % Tile::kStageBlocks;
        if (kWhole || i < n) {
            std::byte* to = stage + Stage::kScales + i * Stage::kScaleRow;
#pragma unroll
            for (int k = 0; k < Tile::kTokens; k += kScaleStep) {
                const int token = thread_ / Tile::kStageBlocks + k;
                if (token >= n_tokens_) continue;
                const std::uint64_t from =
                    kKeepsRows ? scale_rows_[k / kScaleStep] : rows_[token].scales;
                std::byte* mine = to + place_of(token) * 4;
                copy_async_4(mine, scales_ + from);
                if constexpr (S::kNeedsSums)
                    copy_async_4(mine + (Stage::kSums - Stage::kScales), sums_ + from);
            }
        }
    }

    int n_tokens_;
    int last_tile_;
    std::uint32_t tile_bytes_;
    int thread_;
    int lane_;
    int block_;  // of a stage, that the warp copies
    int tile_;
    int in_record_ = 0;      // bytes, where a stage is a part of a record
    const TokenRows* rows_;  // shared
    std::uint64_t code_rows_[kCodeRows] = {};
    std::uint64_t scale_rows_[kScaleRows] = {};
    const std::byte* record_;
    const std::byte* codes_;
    const std::byte* scales_;
    const std::byte* sums_;
};

/// The ring of a thread block.
template <Format kFormat, typename Tile>
class BlockedRing {
    using S = BlockedShape<kFormat>;
    using Stage = BlockedStage<kFormat, Tile>;

  public:
    static constexpr bool kAllWhole = S::kRecordBlocks > 1;  // stages

    __device__ BlockedRing(std::byte* shared, BlockedCopies<kFormat, Tile>& copies, int n_blocks)
        : shared_(shared),
          fill_(shared),
          copies_(copies),
          n_blocks_(n_blocks),
          to_fill_(n_blocks) {}

    __device__ std::byte* next(std::byte* stage) const {
        stage += Stage::kBytes;
        return stage == shared_ + Stage::kRows ? shared_ : stage;
    }
    /// Calls work(stage, n) for each stage when it is there, with the blocks from it on.
    template <typename DoWork>
    __device__ void run(const DoWork& work) {
#pragma unroll 1
        for (int i = 0; i < Tile::kAhead; ++i)
            fill();
        std::byte* stage = shared_;
#pragma unroll 1
        for (int n = n_blocks_; n > 0; n -= Tile::kStageBlocks) {
            copy_async_wait<Tile::kAhead - 1>();
            __syncthreads();  // it is there, and what is filled now was read
            fill();
            work(stage, n);
            stage = next(stage);
        }
    }

  private:
    __device__ void fill() {
        if (to_fill_ >= Tile::kStageBlocks) {
            copies_.template start<true>(fill_, to_fill_);
        } else if (!kAllWhole && to_fill_ > 0) {
            copies_.template start<false>(fill_, to_fill_);
        }
        copy_async_commit();
        to_fill_ -= Tile::kStageBlocks;
        fill_ = next(fill_);
    }

    std::byte* shared_;
    std::byte* fill_;
    BlockedCopies<kFormat, Tile>& copies_;
    int n_blocks_;
    int to_fill_;
};

}  // namespace etalon::backend::cuda

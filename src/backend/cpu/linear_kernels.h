// SPDX-License-Identifier: Apache-2.0
// The table of linear kernels that each instruction set fills, and the operands as they read them.
//
// Tokens are cut into groups of a size that the set names; a kernel multiplies one tile of rows
// with one group while its sums stay in registers. The input of a group lies in a panel:
//   rows:    [K / 4][group] quads            four elements of each token: int8, or int16 in the
//                                            order 0 2 1 3, as e8_quad_bytes says
//   runs:    [K / 32][group] runs            32 elements of each token: int8
//   blocks:  QuantizedBlock [K / 32][group]
// The panel of the group that starts at token t starts at quad t * K / 4, or run or block
// t * K / 32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "backend/cpu/linear_layout.h"
#include "backend/operations.h"

namespace etalon::backend::cpu {

/// 32 elements of a token (QNT-3). The sums are integers below 2^24, so as floats they are exact.
struct QuantizedBlock {
    std::int8_t q[exact::kBlock];
    float a;
    float sum;           ///< of q
    float half_sums[2];  ///< of elements 0..15 and 16..31
};

/// Where a tile's results go: y[token * stride + row] for its first n_rows rows.
struct LinearOutput {
    float* y = nullptr;  ///< row 0 of the tile, token 0
    std::size_t stride = 0;
    const float* bias = nullptr;  ///< of the tile's rows, or none
    bool add = false;             ///< RES-1
    std::size_t n_rows = 0;       ///< rows of the tile that exist
};

/// Tiles of an E8 matrix, one behind the other.
struct E8Tiles {
    const std::byte* lines = nullptr;  ///< [n_tiles][K / 4][16][4]
    const float* d = nullptr;          ///< [n_tiles * 16]
    int n_tiles = 0;                   ///< at most LinearKernels::e8_tiles
};

/// 16 rows of an E4 matrix: four groups of 4 rows, one behind the other.
struct E4Tile {
    const std::byte* codes = nullptr;    ///< [4][K / 32][4][16]
    const std::byte* indices = nullptr;  ///< [4][K / 32][4]
    const float* d = nullptr;            ///< [16]
};

/// A group of tokens for E8, or for E4.
struct RowPanel {
    const std::int8_t* q = nullptr;      ///< [K / 4][n_tokens] quads, or [K / 32][n_tokens] runs
    const float* a = nullptr;            ///< [n_tokens]
    const std::int32_t* sums = nullptr;  ///< [n_tokens], of q
    int n_tokens = 0;                    ///< one of LinearKernels::e8_groups, or e4_groups
};

/// A group of tokens for blocked formats.
struct BlockPanel {
    const QuantizedBlock* blocks = nullptr;  ///< [K / 32][n_tokens]
    int n_tokens = 0;                        ///< one of LinearKernels::blocked_groups
};

using BlockedKernel = void (*)(const std::byte* records, std::size_t n_cols, const BlockPanel& x,
                               const LinearOutput& out);

struct LinearKernels {
    std::size_t width;                    ///< rows of a tile of a blocked format
    int eight_offset;                     ///< what repack_tile adds to 8-bit codes
    int e8_tiles;                         ///< tiles that one call takes at most
    int e8_quad_bytes;                    ///< 4, or 8
    std::span<const int> e8_groups;       ///< sizes of token groups, descending, down to 1
    std::span<const int> e4_groups;       ///< likewise
    std::span<const int> blocked_groups;  ///< likewise
    int e4_tokens_max;                    ///< with more, E4 is multiplied faster as E8

    /// LIN-2, LIN-3. `n_cols` is a multiple of 4.
    void (*e8)(const E8Tiles& w, std::size_t n_cols, const RowPanel& x, const LinearOutput& out);
    /// The same for E4. `n_cols` is a multiple of 32.
    void (*e4)(const E4Tile& w, std::size_t n_cols, const RowPanel& x, const LinearOutput& out);
    /// The tile as one of E8: lines [K / 4][16][4] (FMT-17).
    void (*expand_e4)(const E4Tile& w, std::size_t n_cols, std::byte* lines);
    /// LIN-4 to LIN-6: one tile of `width` rows as repack_tile writes it.
    BlockedKernel (*blocked)(exact::Format format);
    /// LIN-7: the dot product in 256 lanes of two rows of floats.
    float (*dot_floats)(const float* w, const float* x, std::size_t n_cols);
};

extern const LinearKernels kGenericLinear;
#if defined(__x86_64__)
extern const LinearKernels kAvx2Linear;
extern const LinearKernels kAvx512Linear;
#endif

}  // namespace etalon::backend::cpu

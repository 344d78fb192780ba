// SPDX-License-Identifier: Apache-2.0
// What the kernels take and how they are started. Every pointer is a device address; every function
// puts its kernels on `stream` and returns at once. Kernels of sm80/ run on every card from
// compute capability 8.0 on; a folder for a newer one replaces them file by file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "exact/formats.h"

struct CUstream_st;

namespace etalon::backend::cuda {

using Stream = CUstream_st*;

/// Tokens of a forward pass; [T] each.
struct BatchView {
    const std::int32_t* tokens = nullptr;
    const std::int32_t* positions = nullptr;
    const std::int32_t* sequence_of = nullptr;
    const std::int32_t* table_begin = nullptr;  ///< [sequences]: where a page table starts in pages
    const std::int32_t* pages = nullptr;
    std::uint8_t* failed = nullptr;
    /// [n_tiles, 2]: first token and number of tokens, at most kAttentionTileTokens, of one
    /// sequence
    const std::int32_t* tiles = nullptr;
    /// [n_wide_tiles, 2]: the same tokens as tiles of at most kAttentionWideTokens, the longest
    /// contexts first
    const std::int32_t* wide_tiles = nullptr;
    const std::int32_t* singles = nullptr;  ///< [n_singles]: tokens that are in no tile
    int n_tokens = 0;
    int n_tiles = 0;
    int n_wide_tiles = 0;
    int n_singles = 0;

    bool operator==(const BatchView&) const = default;
};
/// Tokens that attention of prompts takes together.
inline constexpr int kAttentionTileTokens = 32;
inline constexpr int kAttentionWideTokens = 128;

/// Quantised input of linear layers (operations.h). A row of codes has `stride` bytes, a multiple
/// of kRowAlignment, zero from n_cols on. Forms that are absent are null.
struct ActivationsView {
    /// [T, stride]; weights behind n_cols are any (E8View), so the zeros there decide.
    std::int8_t* row_q = nullptr;
    float* row_scales = nullptr;        ///< [T]
    std::int8_t* block_q = nullptr;     ///< [T, stride]
    float* block_scales = nullptr;      ///< [T, n_cols / 32]
    std::int16_t* half_sums = nullptr;  ///< [T, n_cols / 16]: sums of 16 successive block_q
    float* floats = nullptr;            ///< [T, n_cols]
    int n_cols = 0;
    int stride = 0;
    /// Each 64 columns of row_q stand in the order of across_place(): for linear_e4_few.cu.
    bool across = false;

    /// The tokens from `token` on.
    ActivationsView from(int token) const noexcept {
        const auto skip = [&](auto* rows, int size) {
            return rows == nullptr ? rows : rows + static_cast<std::ptrdiff_t>(token) * size;
        };
        return {skip(row_q, stride),
                skip(row_scales, 1),
                skip(block_q, stride),
                skip(block_scales, n_cols / 32),
                skip(half_sums, n_cols / 16),
                skip(floats, n_cols),
                n_cols,
                stride,
                across};
    }
};
/// Bytes that a row of int8 is padded to: what a step of the tensor core kernel reads.
inline constexpr int kRowAlignment = 64;
/// Where byte i of 64 stands where a row is `across`: the words of four bytes as a matrix of 4 by
/// 4, transposed. It is its own inverse.
constexpr int across_place(int i) noexcept {
    return (i & ~63) | (i & 12) << 2 | (i & 48) >> 2 | (i & 3);
}

/// R without the signs (ROT-3, ROT-4); `dct` is [m, m] or null.
struct RotationView {
    int block = 1;
    int m = 1;
    const float* dct = nullptr;
};

/// Keys and values. dim_stride is head_dim up to a multiple of 16; a head's page is
///   keys    [dim_stride / 16][64 slots][16]
///   values  [64 / 4 slots][dim_stride][4 slots]
///   scales  [64]
/// Example, head_dim 64: element 37 of the key in slot 3 lies at (2 * 64 + 3) * 16 + 5; element 37
/// of the value in slot 6 at (1 * 64 + 37) * 4 + 2. Pages are [layer][page][kv head].
struct KvView {
    std::int8_t* keys = nullptr;
    std::int8_t* values = nullptr;
    float* key_scales = nullptr;
    float* value_scales = nullptr;
    int n_pages = 0;
    int n_kv_heads = 0;
    int head_dim = 0;
    int dim_stride = 0;

    bool operator==(const KvView&) const = default;
};

/// [T, n_heads, dim_stride] and [T, n_heads].
struct QueriesView {
    std::int8_t* q = nullptr;
    float* scales = nullptr;
    int n_heads = 0;
    int head_dim = 0;
    int dim_stride = 0;
};

/// --- embed.cu ---
struct EmbeddingView {
    exact::Format format = exact::Format::f32;
    const std::byte* rows =
        nullptr;               ///< e8: int8; floating: as stored; blocked: records of width 1
    const float* d = nullptr;  ///< e8: [vocab]
    std::size_t row_bytes = 0;
    int dim = 0;
};
void launch_embed(const BatchView& batch, const EmbeddingView& embedding, float* h, Stream stream);

/// --- quantize.cu --- `scratch` has [T, n_cols] floats where rows are longer than shared memory;
/// `clusters`: a row may be spread over the blocks of a cluster (9.0).
std::size_t row_shared_bytes_max();
void launch_norm_quantize(const BatchView& batch, const float* h, const float* w, float eps,
                          const RotationView& rotation, const ActivationsView& x, float* scratch,
                          bool clusters, Stream stream);
void launch_quantize(const BatchView& batch, const float* v, const ActivationsView& x,
                     float* scratch, bool clusters, Stream stream);
void launch_swiglu_quantize(const BatchView& batch, const float* gate_up,
                            const RotationView& rotation, const ActivationsView& x, float* scratch,
                            bool clusters, Stream stream);

/// --- quantize_e8.cu --- The same for the usual shapes of E8 models; false: nothing was launched.
bool launch_norm_quantize_e8(const BatchView& batch, const float* h, const float* w, float eps,
                             const RotationView& rotation, const ActivationsView& x, Stream stream);
bool launch_quantize_e8(const BatchView& batch, const float* v, const ActivationsView& x,
                        Stream stream);
bool launch_swiglu_quantize_e8(const BatchView& batch, const float* gate_up,
                               const RotationView& rotation, const ActivationsView& x,
                               bool clusters, Stream stream);

/// Whether launch_norm_quantize_e8 takes such rows.
bool takes_norm_quantize_e8(const RotationView& rotation, const ActivationsView& x);

/// R and int8 of rows s [T, n_cols]: what is left of swiglu_quantize where s is there.
bool takes_rotate_quantize_e8(const RotationView& rotation, const ActivationsView& x,
                              bool clusters);
void launch_rotate_quantize_e8(const BatchView& batch, const float* s, const RotationView& rotation,
                               const ActivationsView& x, bool clusters, Stream stream);

/// --- quantize_blocks.cu --- The same where blocks of 32 are the only form.
bool launch_norm_quantize_blocks(const BatchView& batch, const float* h, const float* w, float eps,
                                 const ActivationsView& x, bool clusters, Stream stream);
bool launch_quantize_blocks(const BatchView& batch, const float* v, const ActivationsView& x,
                            bool clusters, Stream stream);
bool launch_swiglu_quantize_blocks(const BatchView& batch, const float* gate_up,
                                   const ActivationsView& x, bool clusters, Stream stream);

/// --- linear*.cu --- A part of a stack: its rows of y, and which token each row of y is of.
struct LinearOut {
    float* y = nullptr;                      ///< of the part's first row
    std::size_t y_stride = 0;                ///< rows of the whole stack
    const float* bias = nullptr;             ///< of the part's first row, or null
    const std::int32_t* token_of = nullptr;  ///< [n_tokens]; null: the identity
    int n_tokens = 0;
    bool add = false;  ///< RES-1
    /// [2]: y has the rows [group[0], group[1]) alone, n_tokens at most, which the card knows; or
    /// null. For linear_e8, linear_e4_stream, linear_blocked and linear_floats.
    const std::int32_t* group = nullptr;
    int first = 0;  ///< of the group, which the kernel sets
};
struct E8View {
    const std::int8_t* q = nullptr;  ///< [n_rows, stride]; from n_cols on any, in [-127, 127]
    const float* d = nullptr;        ///< [n_rows]
    int n_rows = 0;
    int stride = 0;
    /// The kernel ahead on the stream writes q: nothing of it is read before that kernel has ended.
    bool fresh = false;
};
/// Rows and columns of a group of E4 (e4.cuh), the bytes of its codes and of all of it.
inline constexpr int kE4TileRows = 16;
inline constexpr int kE4Columns = 256;
inline constexpr int kE4CodeBytes = kE4TileRows * kE4Columns / 2;
inline constexpr int kE4GroupBytes = kE4CodeBytes + kE4TileRows * kE4Columns / 32;
struct E4View {
    /// [ceil(n_rows / 16), ceil(stride / 256)] groups (e4.cuh)
    const std::byte* groups = nullptr;
    const float* d = nullptr;  ///< [n_rows]
    int n_rows = 0;
    int stride = 0;  ///< of the input
};
/// Rows of the table of E4: eight bytes of base, eight of step (e4.cuh).
struct E4Table {
    std::uint32_t rows[16][4];
};
/// E8 matrices of one shape, and which of them the tokens go to: the pairs of matrix m are the
/// rows [begin[m], begin[m + 1]) of y.
struct E8Matrix {
    const std::int8_t* q = nullptr;  ///< as in E8View
    const float* d = nullptr;
};
struct E8Groups {
    const E8Matrix* matrices = nullptr;
    /// [n_slots]: those with pairs, ascending, then kNoExpert; of one token slot i is row i of y
    const std::int32_t* active = nullptr;
    const std::int32_t* begin = nullptr;
    int n_matrices = 0;
    int n_slots = 0;  ///< most matrices that can have pairs
    int n_rows = 0;
    int stride = 0;
    bool settled = false;  ///< as in RoutingView
};
inline constexpr std::int32_t kNoExpert = -1;
struct BlockedView {
    exact::Format format = exact::Format::q8_0;
    const std::byte* records = nullptr;  ///< tiles of kBlockedWidth rows (cpu/linear_layout.h)
    int n_rows = 0;
    int n_cols = 0;
};
struct FloatsView {
    exact::Format format = exact::Format::f32;
    const std::byte* rows = nullptr;
    int n_rows = 0;
    int n_cols = 0;
};
/// Rows of a tile of blocked weights; a lane of a warp has one where there is one token.
inline constexpr int kBlockedWidth = 32;
/// Most tokens of launch_linear_e8_decode, of launch_linear_e8_stream and of
/// launch_linear_e4_stream.
inline constexpr int kDecodeTokensMax = 2;
inline constexpr int kStreamTokensMax = 32;
inline constexpr int kE4StreamTokensMax = 64;

void launch_linear_e8_decode(const E8View& w, const ActivationsView& x, const LinearOut& out,
                             Stream stream);
void launch_linear_e8_stream(const E8View& w, const ActivationsView& x, const LinearOut& out,
                             Stream stream);
/// The same for groups of at most out.n_tokens tokens each. Behind them all groups are settled.
void launch_experts_e8_decode(const E8Groups& groups, const ActivationsView& x,
                              const LinearOut& out, Stream stream);
void launch_experts_e8_stream(const E8Groups& groups, const ActivationsView& x,
                              const LinearOut& out, Stream stream);
void launch_linear_e8(const E8View& w, const ActivationsView& x, const LinearOut& out,
                      Stream stream);
void launch_linear_e4_stream(const E4View& w, const E4Table& table, const ActivationsView& x,
                             const LinearOut& out, Stream stream);
/// The second one takes the first for one token of at most kBlockedOneColumnsMax columns.
inline constexpr int kBlockedOneColumnsMax = 28672;
/// Shared memory that a block can have on every card from 8.0 on.
inline constexpr int kSharedBytesMax = 99 * 1024;
void launch_linear_blocked_one(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                               int n_multiprocessors, Stream stream);
void launch_linear_blocked(const BlockedView& w, const ActivationsView& x, const LinearOut& out,
                           int n_multiprocessors, Stream stream);
void launch_linear_floats(const FloatsView& w, const ActivationsView& x, const LinearOut& out,
                          Stream stream);
/// Rows [first_row, first_row + n_rows) of `w` from the tiles of a file (src/weights/layouts.md).
void launch_e8_layout(const std::byte* tiles, int n_rows, int n_cols, std::int8_t* w, int stride,
                      Stream stream);

/// --- blocked_layout.cu --- Records of tiles of `width` rows (cpu/linear_layout.h) from rows as
/// stored.
void launch_blocked_layout(exact::Format format, const std::byte* rows, std::size_t row_bytes,
                           int width, int n_rows, int n_cols, std::byte* records, Stream stream);

/// --- e4_layout.cu --- Groups from the lines and indices of a file (src/weights/layouts.md) that
/// has so many rows; `ascending`: bit s, whether row s of the table of E4 ascends.
void launch_e4_layout(const std::byte* lines, const std::byte* indices, int n_rows, int n_cols,
                      std::uint32_t ascending, std::byte* groups, Stream stream);
/// The weights as rows of E8: q int8 [w.n_rows, w.stride].
void launch_e4_rows(const E4View& w, const E4Table& table, std::int8_t* q, Stream stream);

/// --- experts_route.cu --- Pairs of a token with one of its experts, in the order of experts,
/// those of one in the order of tokens.
struct RoutingView {
    std::int32_t* expert_of = nullptr;  ///< [T, n_used], ascending
    float* weight_of = nullptr;         ///< [T, n_used]
    std::int32_t* pair_of = nullptr;    ///< [T, n_used]
    std::int32_t* token_of = nullptr;   ///< [pairs]
    std::int32_t* begin = nullptr;      ///< [n_experts + 1]: pairs of each expert
    std::int32_t* active = nullptr;     ///< [n_experts]: experts with pairs, then kNoExpert
    std::uint8_t* failed = nullptr;     ///< [pairs], zeroed
    std::uint32_t* n_ended = nullptr;   ///< zero before and after
    int n_experts = 0;
    int n_used = 0;
    /// Of launches behind launch_experts_route: all of the above but `failed` is complete before
    /// their kernels can start, and so is what kernels before it wrote. They may read it ahead of
    /// wait_for_kernels_before(). For that a kernel between has waited before it let others start.
    bool settled = false;
};
inline constexpr int kExpertsMax = 256;
void launch_experts_route(const BatchView& batch, const FloatsView& router,
                          const ActivationsView& x, const RoutingView& routing, Stream stream);

/// --- experts_join.cu --- y [pairs, n_cols].
void launch_experts_join(const BatchView& batch, const RoutingView& routing, const float* y,
                         int n_cols, float* h, Stream stream);

/// --- rope_append.cu ---
struct RopeView {
    const std::uint64_t* turns = nullptr;  ///< [n_pairs]
    int n_pairs = 0;
    float magnitude = 1.0F;
    bool interleaved = true;
    int block = 1;  ///< of the butterfly over a head (ROT-6)
};
void launch_rope_append(const BatchView& batch, const float* qkv, const RopeView& rope, int layer,
                        const KvView& kv, const QueriesView& queries, Stream stream);

/// --- attention.cu ---
struct AttentionShape {
    int layer = 0;
    int sliding_window = 0;  ///< 0: none
    float constant = 0.0F;   ///< C of ATT-3
    int n_chunks = 0;        ///< room of `states` for each row; 0: each row joins its own chunks
};
/// Most query heads of a KV head that launch_attention_tile and launch_attention_decode take.
inline constexpr int kTileHeadsMax = 4;
inline constexpr int kDecodeHeadsMax = 8;
/// Floats of one chunk's state.
constexpr std::size_t attention_state_floats(int dim_stride) noexcept {
    return static_cast<std::size_t>(dim_stride) + 4;
}
/// o[T, n_heads * head_dim]. `states` has [T * n_heads, n_chunks] states.
void launch_attention(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                      const AttentionShape& shape, float* states, float* o, Stream stream);

/// --- attention_tile.cu, attention_decode.cu --- The same for the tokens of batch.tiles and of
/// batch.singles; false: the shape is not supported, nothing was launched. `chunks`: a context has
/// more than one. With shape.n_chunks > 0 attention_decode leaves states for launch_attention_join.
bool launch_attention_tile(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                           const AttentionShape& shape, bool chunks, float* o, Stream stream);
bool launch_attention_decode(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                             const AttentionShape& shape, float* states, float* o, Stream stream);
/// `states` has [n_singles * n_heads, n_chunks] states.
void launch_attention_join(const BatchView& batch, const QueriesView& queries,
                           const AttentionShape& shape, const float* states, float* o,
                           Stream stream);

/// --- checksum.cu --- `sums` of n_rows rows of n logits are set.
void launch_checksum(const float* logits, int n_rows, std::size_t n, std::uint64_t* sums,
                     Stream stream);

/// --- draw.cu --- How one row is drawn (SMP-1 to SMP-10). `mask`, `penalties` and `biases` are
/// places in the words that are sent with the rows.
struct DrawRow {
    std::uint64_t bits = 0;            ///< SMP-9
    std::uint64_t top_p = 0;           ///< in units of 2^-32; 2^32: all (SMP-7)
    float inverse_temperature = 0.0F;  ///< 0: the largest logit
    std::uint32_t p_least = 1;         ///< SMP-8, at least 1
    std::int32_t top_k = 0;            ///< 0: all
    std::int32_t row = 0;              ///< of logits
    std::int32_t adjusted = kNoRow;    ///< row of the scratch; kNoRow: neither penalties nor bias
    std::int32_t mask = kNoRow;        ///< [(n + 31) / 32]; kNoRow: all are allowed
    std::int32_t penalties = 0;        ///< [n_penalties, 2]: id, times in the answer
    std::int32_t n_penalties = 0;      ///< of prompt and answer
    std::int32_t biases = 0;           ///< [n_biases, 2]: id, bits of the bias
    std::int32_t n_biases = 0;
    float repetition = 1.0F;
    float frequency = 0.0F;
    float presence = 0.0F;
    std::int32_t n_top = kNoRow;  ///< of logprobs.cu; kNoRow: none

    static constexpr std::int32_t kNoRow = -1;
};
/// Which rows a kernel takes that keeps them in registers, where there is one: those that neither
/// penalties nor bias change, or of them those whose tokens do not leave by their order as well
/// (SMP-6, SMP-7).
enum class AtOnce : std::uint8_t { none, unfiltered, unadjusted };
constexpr bool is_filtered(const DrawRow& row) noexcept {
    return row.inverse_temperature != 0.0F && (row.top_k > 0 || row.top_p < std::uint64_t{1} << 32);
}
constexpr bool draws_at_once(const DrawRow& row, AtOnce which) noexcept {
    return row.adjusted == DrawRow::kNoRow && which != AtOnce::none &&
           (which == AtOnce::unadjusted || !is_filtered(row));
}
/// Sums of so many P in 32 bits, in three pieces.
inline constexpr int kDrawVocabMax = 1 << 21;
/// tokens[i] for rows[i] from logits [rows, n]; `adjusted` [adjusted rows, n]. Rows that are drawn
/// at once are passed over.
void launch_draw(const float* logits, int n, const DrawRow* rows, int n_rows,
                 const std::uint32_t* words, float* adjusted, AtOnce at_once, std::int32_t* tokens,
                 Stream stream);

/// --- logprobs.cu --- What log-probabilities of a row are made of (SMP-11, SMP-12).
inline constexpr int kRowTopMax = 32;
struct RowSums {
    std::uint64_t sum = 0;
    float largest = 0.0F;
    float logit = 0.0F;  ///< of the token
    struct {
        std::int32_t id;  ///< -1: the vocabulary is smaller
        float logit;
    } top[kRowTopMax] = {};
};
/// sums[i] of rows[i] with n_top >= 0 whose tokens[i] launch_draw has found.
void launch_logprobs(const float* logits, int n, const DrawRow* rows, int n_rows,
                     const std::int32_t* tokens, RowSums* sums, Stream stream);

/// --- drawn_tokens.cu --- tokens[t] < 0 of a batch become drawn[-1 - tokens[t]], which kernels
/// ahead on the stream write; where that is no token, 0 with failed[t] = 1.
void launch_drawn_tokens(const std::int32_t* drawn, int vocab_size, std::int32_t* tokens,
                         std::uint8_t* failed, int n, Stream stream);

/// --- clear_page.cu --- zeroes keys, values and scales of `page` in n_layers layers.
void launch_clear_page(const KvView& kv, int n_layers, int page, Stream stream);

/// --- gather_rows.cu --- the int8 rows rows[i] of `from` as rows i of `to`.
void launch_gather_rows(const ActivationsView& from, const std::int32_t* rows, int n_rows,
                        const ActivationsView& to, Stream stream);

/// --- integer_peak.cu --- multiplies for so many turns; returns the operations. `sink` has
/// kPeakSink words for each multiprocessor.
inline constexpr int kPeakSink = 512;
double launch_integer_peak(int n_turns, int n_multiprocessors, int* sink, Stream stream);

/// --- read_speed.cu --- reads `bytes` (a multiple of 16) once.
void launch_read(const std::byte* from, std::size_t bytes, std::uint32_t* sink, Stream stream);

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Kernels for compute capability 9.0 that replace those of sm80/kernels.h; they exist in a program
// that was compiled for 9.0a.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

/// Whether they exist in this program and the current card runs them.
bool card_has_sm90_kernels();

/// As launch_integer_peak.
double launch_integer_peak_sm90(int n_turns, int n_multiprocessors, int* sink, Stream stream);

/// As launch_linear_e8; out.token_of is null.
void launch_linear_e8_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                           int n_multiprocessors, Stream stream);

/// Most tokens of launch_linear_e8_few_sm90.
inline constexpr int kFewTokensMax = 256;
/// The same for few tokens.
void launch_linear_e8_few_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                               int n_multiprocessors, Stream stream);

/// As launch_linear_e4_stream, for x that is `across` and up to kFewTokensMax tokens; out.token_of
/// and out.group are null.
void launch_linear_e4_few_sm90(const E4View& w, const E4Table& table, const ActivationsView& x,
                               const LinearOut& out, int n_multiprocessors, Stream stream);

/// Memory of a card for the sums that blocks of one launch pass to each other.
struct SplitSums {
    std::int32_t* sums = nullptr;     ///< [split_sums_ints(n_blocks)]
    std::uint32_t* counts = nullptr;  ///< [n_blocks], 0 before and after each launch
    int n_blocks = 0;                 ///< n_multiprocessors; 0: none, K is not split
};
constexpr std::size_t split_sums_ints(int n_blocks) noexcept {
    return static_cast<std::size_t>(n_blocks) * 128 * 256;
}
/// Whether launch_linear_e8_pairs_sm90 is the faster one, and for gate and up its like.
bool pairs_are_faster(int n_tokens, int n_rows, int stride) noexcept;
/// As launch_linear_e8_few_sm90.
void launch_linear_e8_pairs_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                 int n_multiprocessors, const SplitSums& split, Stream stream);

/// SwiGLU of the product with gate and up: s[t, i] of rows i and w.n_rows / 2 + i, with the bias of
/// both where there is one. `out` is of s and has w.n_rows / 2 rows. False: w.n_rows is no multiple
/// of 16, or `out` has token_of or add; nothing was launched.
bool launch_gate_up_e8_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                            int n_multiprocessors, Stream stream);
/// The same for what it takes, up to kFewTokensMax tokens: as launch_linear_e8_few_sm90, and as
/// launch_linear_e8_pairs_sm90.
void launch_gate_up_e8_few_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                int n_multiprocessors, Stream stream);
void launch_gate_up_e8_pairs_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                  int n_multiprocessors, Stream stream);
/// The same for E4 and x that is `across`; w.n_rows is a multiple of 32.
void launch_gate_up_e4_few_sm90(const E4View& w, const E4Table& table, const ActivationsView& x,
                                const LinearOut& out, int n_multiprocessors, Stream stream);

/// As launch_rotate_quantize_e8, for rows that takes_rotate_quantize_e8 takes; the faster one from
/// kRotateRowsMin tokens on. False: the rotation is another one than butterflies over 2,048
/// elements, 8 of them at most; nothing was launched.
inline constexpr int kRotateRowsMin = 512;
bool launch_rotate_rows_sm90(const BatchView& batch, const float* s, const RotationView& rotation,
                             const ActivationsView& x, int n_multiprocessors, Stream stream);

/// As launch_norm_quantize_e8, the faster one from kNormRowsMin tokens on. False: a row is no
/// butterfly over 4,096 elements, or x has another form beside int8; nothing was launched.
inline constexpr int kNormRowsMin = 512;
bool launch_norm_rows_sm90(const BatchView& batch, const float* h, const float* w, float eps,
                           const RotationView& rotation, const ActivationsView& x, Stream stream);

/// Experts whose tokens follow each other in x, out.n_tokens of them in all: those of expert e are
/// the rows [begin[e], begin[e + 1]) of x and of y. n_slots is the number of experts, `active` is
/// not read. `maps` is what experts_maps_e8_sm90() gave, on the card, with the same gate_up: true
/// for SwiGLU of the products with gate and up (n_rows, a multiple of 16, are those of both, y has
/// half of them).
std::vector<std::byte> experts_maps_e8_sm90(std::span<const E8Matrix> matrices, int n_rows,
                                            int stride, bool gate_up);
void launch_experts_e8_sm90(const E8Groups& experts, const std::byte* maps, bool gate_up,
                            const ActivationsView& x, const LinearOut& out, int n_multiprocessors,
                            Stream stream);

/// As launch_attention_decode with shape.n_chunks > 0 where a context has more than one chunk; fast
/// where there are more (token, KV head, chunk) than multiprocessors.
void launch_attention_decode_sm90(const BatchView& batch, const QueriesView& queries,
                                  const KvView& kv, const AttentionShape& shape, float* states,
                                  float* o, int n_multiprocessors, Stream stream);

/// As launch_attention_tile, for the tokens of batch.wide_tiles and up to kWideHeadsMax query heads
/// a KV head; head_dim is 64 or 128. It multiplies in binary16 and is right where
/// launch_half_products_sm90 counts nothing.
inline constexpr int kWideHeadsMax = 8;
void launch_attention_tile_sm90(const BatchView& batch, const QueriesView& queries,
                                const KvView& kv, const AttentionShape& shape, float* o,
                                int n_multiprocessors, Stream stream);

/// Adds to `wrong` how many sums of a trial of the tensor cores are not exact.
void launch_half_products_sm90(std::uint32_t* wrong, Stream stream);

/// --- draw.cu --- What comes to the host with the tokens.
struct DrawBack {
    std::uint64_t* sums = nullptr;             ///< checksums of the rows of logits, or null
    std::uint8_t* flags = nullptr;             ///< [n_flags], a copy
    const std::uint8_t* flags_from = nullptr;  ///< [n_flags]
    int n_flags = 0;
};
/// Largest vocabulary, and most rows that need not lie on the card.
inline constexpr int kDrawAtOnceMax = 1 << 17;
inline constexpr int kDrawFewRows = 16;
/// As launch_draw, for rows that draws_at_once(row, which) takes; the others are passed over. The
/// rows are `few`, or where `rows` is not null those on the card. `tokens` and `back` may be pinned
/// memory of the host.
void launch_draw_sm90(const float* logits, int n, std::span<const DrawRow> few, const DrawRow* rows,
                      int n_rows, AtOnce which, const std::uint32_t* words, std::int32_t* tokens,
                      const DrawBack& back, Stream stream);

/// --- decode_layers.cu --- The layers of a pass of one token as one kernel.
/// Most tokens and layers, and the head_dim that it takes.
inline constexpr int kLayersTokensMax = 1;  // two are faster one operation after the other
inline constexpr int kLayersMax = 128;
inline constexpr int kLayersHeadDim = 128;
/// Weights: E8 in rows of n_cols bytes, E4 in groups (sm80/e4.cuh).
struct MatrixView {
    const std::byte* weights = nullptr;
    const float* d = nullptr;
    const float* bias = nullptr;  ///< or null
};
/// The matrices of a layer in their order.
enum LayerMatrix : int { kQkv, kAttnOutput, kGateUp, kDown, kLayerMatrices };
struct LayerView {
    const float* attn_norm = nullptr;
    const float* ffn_norm = nullptr;
    MatrixView matrices[kLayerMatrices];
};
struct LayersView {
    exact::Format format = exact::Format::e8;  ///< of all matrices: e8 or e4
    E4Table table{};                           ///< e4
    int n_layers = 0;
    int dim = 0;
    int hidden_dim = 0;
    int n_heads = 0;
    float eps = 0.0F;
    int dim_block = 0;     ///< of the butterfly over h
    int hidden_block = 0;  ///< and over the input of down
    RopeView rope;
    KvView kv;
    AttentionShape attention;           ///< layer is not read; n_chunks 1
    float* h = nullptr;                 ///< [T, dim]
    float* hidden = nullptr;            ///< [T, hidden_dim], a room
    void* packets = nullptr;            ///< zero at first: a room that no other kernel writes to
    std::size_t packets_bytes = 0;      ///< T layers_packets_bytes() or more
    std::uint32_t* meetings = nullptr;  ///< [kLayersMeetings], zero at first, of this room
    LayerView layers[kLayersMax];
};
inline constexpr int kLayersMeetings = 5;
/// Bytes of the room by which the blocks pass values of a token to each other.
std::size_t layers_packets_bytes(const LayersView& view) noexcept;
/// Whether launch_decode_layers takes so many tokens and these shapes.
bool decode_layers_supports(const LayersView& view, int n_tokens, int n_multiprocessors);
/// h after all layers (FWD-2, FWD-3); keys and values go to the cache.
void launch_decode_layers(const BatchView& batch, const LayersView& view, int n_multiprocessors,
                          Stream stream);

}  // namespace etalon::backend::cuda

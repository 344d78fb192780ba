// SPDX-License-Identifier: Apache-2.0
// Kernels for compute capability 9.0 that replace those of sm80/kernels.h; they exist in a program
// that was compiled for 9.0a.
#pragma once

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

/// Memory of a card for the sums that blocks of one launch pass to each other.
struct SplitSums {
    std::int32_t* sums = nullptr;     ///< [split_sums_ints(n_blocks)]
    std::uint32_t* counts = nullptr;  ///< [n_blocks], 0 before and after each launch
    int n_blocks = 0;                 ///< n_multiprocessors; 0: none, K is not split
};
constexpr std::size_t split_sums_ints(int n_blocks) noexcept {
    return static_cast<std::size_t>(n_blocks) * 128 * 256;
}
/// Whether launch_linear_e8_pairs_sm90 is the faster one.
bool pairs_are_faster(int n_tokens, int n_rows, int stride) noexcept;
/// As launch_linear_e8_few_sm90.
void launch_linear_e8_pairs_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                 int n_multiprocessors, const SplitSums& split, Stream stream);

/// SwiGLU of the product with gate and up: s[t, i] of rows i and w.n_rows / 2 + i, with the bias of
/// both where there is one. `out` is of s and has w.n_rows / 2 rows. False: w.n_rows is no multiple
/// of 16, or `out` has token_of or add; nothing was launched.
bool launch_gate_up_e8_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                            int n_multiprocessors, Stream stream);
/// The same for what it takes, up to kFewTokensMax tokens, as launch_linear_e8_few_sm90 and
/// launch_linear_e8_pairs_sm90.
void launch_gate_up_e8_few_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                int n_multiprocessors, Stream stream);
void launch_gate_up_e8_pairs_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                  int n_multiprocessors, Stream stream);

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

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// The table of functions that each instruction set fills: the float operations of a forward pass on
// one token's row, and attention on one tile of queries. Linear layers have their own (linear.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/operations.h"
#include "exact/attention.h"
#include "exact/quantize.h"
#include "exact/rotate.h"

namespace etalon::backend::cpu {

/// Floats of the widest vector: rows that kernels write without a tail are padded to it.
inline constexpr std::size_t kPadFloats = 16;
constexpr std::size_t padded(std::size_t n) noexcept {
    return (n + kPadFloats - 1) / kPadFloats * kPadFloats;
}

/// Rows (token, head) of one attention tile: their states stay in the second-level cache, and the
/// row lists stay on the stack.
inline constexpr int kTileRowsMax = 64;
/// Tokens of one tile: more would make the uneven end of a causal tile dearer than a page load.
inline constexpr int kTileTokensMax = 16;

/// RoPE and butterfly of one head. Tables for one position, of 2 n_pairs floats each when
/// interleaved and of n_pairs otherwise:
///   interleaved: first = c0 s0 c1 s1 ..., second = -s0 c0 -s1 c1 ...;
///   halves: first = c, second = s.
struct RopeHead {
    int head_dim = 0;
    int n_pairs = 0;
    int block = 1;  ///< of the butterfly (ROT-6)
    bool interleaved = true;
    const float* first = nullptr;
    const float* second = nullptr;
};

/// One KV head of one layer in the cache (kv_cache.h has the layout of a page).
struct KvHeadView {
    const std::uint8_t* keys = nullptr;
    const std::int8_t* values = nullptr;
    const float* key_scales = nullptr;
    const float* value_scales = nullptr;
    std::size_t keys_stride = 0;    ///< bytes from a page to the next
    std::size_t values_stride = 0;  ///< likewise
    std::size_t scales_stride = 0;  ///< floats from a page to the next
};

/// Queries of successive tokens of one sequence and of heads that share one KV head. Row r is
/// token r / n_heads, head r % n_heads.
struct AttentionTile {
    int n_tokens = 0;
    int n_heads = 0;  ///< n_tokens * n_heads <= kTileRowsMax
    int head_dim = 0;
    int sliding_window = 0;                ///< 0: none
    std::int64_t position = 0;             ///< of the first token
    const std::int8_t* q = nullptr;        ///< row r at token * token_stride + head * head_stride
    const float* q_scales = nullptr;       ///< at token * scales_stride + head
    const std::int32_t* q_sums = nullptr;  ///< sum of q, as q_scales
    std::size_t token_stride = 0;
    std::size_t head_stride = 0;
    std::size_t scales_stride = 0;
    const std::int32_t* page_table = nullptr;
    KvHeadView kv;

    int n_rows() const noexcept { return n_tokens * n_heads; }
};

/// Running result of a row over pages or chunks: o / l * 2^16, both relative to 2^m (ATT-9).
struct RowState {
    bool empty = true;
    bool failed = false;  ///< an exponent out of range (ERR-2)
    std::int32_t m = 0;
    float l = 0.0F;
};

/// States of the rows of a tile; o[n_rows, padded(head_dim)].
struct TileStates {
    RowState* rows = nullptr;
    float* o = nullptr;
};

/// Sizes k count elements. Pointers need no alignment, but `x` and `z` of rotate, quantize and norm
/// have room for padded(k) floats.
struct Kernels {
    std::string_view name;
    std::uint8_t key_flip;  ///< xor on cached key bytes: 0x80 where the dot product wants unsigned

    /// z = w * h; returns the RMS scale (NRM-1, NRM-2).
    float (*norm)(const float* h, const float* w, std::size_t k, float eps, float* z);
    /// x := R x without signs (ROT-3, ROT-4); `scratch` has k floats.
    void (*rotate)(const exact::Rotation& rotation, float* x, float* scratch);
    /// QNT-2.
    exact::QuantizeResult (*quantize)(const float* x, std::size_t k, std::int8_t* q);
    /// QNT-3, and the sums of 16 successive q. k is a multiple of 32.
    bool (*quantize_blocks)(const float* x, std::size_t k, std::int8_t* q, float* scales,
                            std::int16_t* half_sums);
    /// out = x * factor.
    void (*scale)(const float* x, std::size_t k, float factor, float* out);
    /// SWI-1; `out` has room for padded(k).
    void (*swiglu)(const float* gate, const float* up, std::size_t k, float* out);
    /// h = h + acc, acc = fma(weights[i], y[i], acc) from +0, i ascending (MOE-3, RES-1).
    void (*join_experts)(const float* const* y, const float* weights, std::size_t n, std::size_t k,
                         float* h);
    /// RPE-6, ROT-6; `out` has room for padded(head_dim).
    void (*rope_head)(const RopeHead& rope, const float* x, float* out);
    /// out = float(q) * d (EMB-1).
    void (*embed)(const std::int8_t* q, float d, std::size_t k, float* out);
    /// CHK-1.
    std::uint64_t (*checksum)(const float* logits, std::size_t n);
    /// QNT-1.
    std::uint32_t (*amax_bits)(const float* x, std::size_t n);
    /// As Backend::largest; n >= 1.
    float (*largest)(const float* x, std::size_t n);
    /// As Backend::probability_units (SMP-5).
    void (*probability_units)(const float* logits, std::size_t n, float largest,
                              float inverse_temperature, std::uint32_t* p);

    /// States of all rows over the visible keys of one chunk of 1,024 positions (ATT-4 to ATT-9).
    void (*attend_chunk)(const AttentionTile& tile, std::int64_t chunk, TileStates states);
    /// Joins a chunk's states into the total (ATT-10).
    void (*join_chunk)(const AttentionTile& tile, TileStates chunk, TileStates total);
    /// o = O * ((1 / L) * 2^16), 0 for a failed row (ATT-11). `o` has head_dim floats.
    void (*finish_row)(const RowState& state, const float* state_o, int head_dim, float* o);
};

extern const Kernels kGenericKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

/// The table of an instruction set that is available.
const Kernels& kernels_of(Isa isa);

}  // namespace etalon::backend::cpu

// SPDX-License-Identifier: Apache-2.0
// Keys and values of the CPU backend, in pages of 64 positions, one KV head after the other:
//   keys    [layer][page][kv_head][head_dim / 4][64 slots][4 bytes]   lanes of a dot are slots
//   values  [layer][page][kv_head][64 / 4 slots][padded head_dim][4 slots]   lanes are dimensions
//   scales  [layer][page][kv_head][64 slots]
// Example, head_dim 64: byte 5 of the key in slot 3 lies at 1 * 256 + 3 * 4 + 1 of its head's page;
// byte 5 of the value in slot 6 at 1 * 256 + 5 * 4 + 2.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/aligned.h"
#include "backend/cpu/kernels.h"
#include "backend/operations.h"

namespace etalon::backend::cpu {

/// Largest head_dim: kernels keep the sums of a few rows on the stack. Models have up to 256.
inline constexpr std::size_t kHeadDimMax = 512;

class CpuKvCache final : public KvCache {
  public:
    /// `key_flip` is the xor that the kernels want on key bytes.
    CpuKvCache(const KvShape& kv_shape, std::uint8_t key_flip);

    KvHeadView head(int layer, int kv_head) const noexcept;
    void write_key(int layer, int page, int slot, int kv_head, const std::int8_t* q, float scale);
    void write_value(int layer, int page, int slot, int kv_head, const std::int8_t* q, float scale);
    HostVector read_key(int layer, int page, int slot, int kv_head) const;
    HostVector read_value(int layer, int page, int slot, int kv_head) const;
    /// Zeroes a page in every layer.
    void clear_page(int page);

  private:
    /// Number of a head's page among all, in the order of the arrays.
    std::size_t page_index(int layer, int page, int kv_head) const noexcept;

    std::uint8_t key_flip_;
    std::size_t key_quads_;   // head_dim / 4, rounded up
    std::size_t value_dims_;  // padded(head_dim)
    AlignedVector<std::uint8_t> keys_;
    AlignedVector<std::int8_t> values_;
    AlignedVector<float> key_scales_;
    AlignedVector<float> value_scales_;
};

/// Queries: [token][head][padded head_dim] bytes, zero past head_dim.
struct CpuQueries final : Queries {
    AlignedVector<std::int8_t> q;
    AlignedVector<float> scales;       ///< [token][head]
    AlignedVector<std::int32_t> sums;  ///< [token][head]: sum of q

    std::size_t head_stride() const noexcept { return padded(static_cast<std::size_t>(head_dim)); }
};

}  // namespace etalon::backend::cpu

// SPDX-License-Identifier: Apache-2.0
// Where keys and values lie (the picture stands beside KvView in sm80/kernels.h).
#pragma once

#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

inline constexpr int kPageSlots = 64;   ///< positions of a page (ATT-2)
inline constexpr int kChunkPages = 16;  ///< pages of a chunk (ATT-2)
inline constexpr int kKeyRun = 16;      ///< elements of a key that lie together
inline constexpr int kValueRun = 4;     ///< slots of a value that lie together

/// The page that holds position `position` of token t's sequence.
__device__ inline std::int32_t page_of(const BatchView& batch, std::size_t t,
                                       std::int32_t position) {
    return batch.pages[batch.table_begin[batch.sequence_of[t]] + position / kPageSlots];
}

/// Number of a head's page among all.
__host__ __device__ inline std::size_t head_page(const KvView& kv, int layer, int page,
                                                 int kv_head) {
    return (static_cast<std::size_t>(layer) * kv.n_pages + page) * kv.n_kv_heads + kv_head;
}

__host__ __device__ inline std::size_t key_address(const KvView& kv, std::size_t head_page_index,
                                                   int slot, int i) {
    return head_page_index * kPageSlots * kv.dim_stride +
           static_cast<std::size_t>((i / kKeyRun * kPageSlots + slot) * kKeyRun + i % kKeyRun);
}

__host__ __device__ inline std::size_t value_address(const KvView& kv, std::size_t head_page_index,
                                                     int slot, int i) {
    return head_page_index * kPageSlots * kv.dim_stride +
           static_cast<std::size_t>((slot / kValueRun * kv.dim_stride + i) * kValueRun +
                                    slot % kValueRun);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Attention of one query head over int8 keys and values in pages of 64 absolute positions (spec
// ATT-1 to ATT-12).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

namespace etalon::exact {

inline constexpr int kPageTokens = 64;             ///< keys of one page (ATT-2)
inline constexpr int kChunkTokens = 1024;          ///< keys of one chunk: 16 pages (ATT-2)
inline constexpr float kMaxAbsExponent = 0x1p20F;  ///< |m_b| at or above it is ERR-2

/// Key or value of one absolute position and KV head: int8[head_dim] and its scale.
struct CachedVector {
    std::span<const std::int8_t> q;
    float scale = 0.0F;
};

/// Keys [first, last] are visible to the query: last is its own position, first is 0 or, with a
/// sliding window of w keys, max(0, last - w + 1).
struct Visible {
    std::int64_t first = 0;
    std::int64_t last = 0;
};
Visible visible_keys(std::int64_t position, int sliding_window) noexcept;  // ATT-1

/// C: log2(e) / sqrt(head_dim), times the rotation's 2^-k as keys and queries carry it (ATT-3).
float attention_constant(int head_dim) noexcept;

using CacheReader = std::function<CachedVector(std::int64_t position)>;

/// o[head_dim] for one query head q[head_dim] with its scale. Returns false when a page's largest
/// exponent is out of range (ERR-2); then o is all 0.
bool attend(std::span<const std::int8_t> q, float scale_q, const CacheReader& key,
            const CacheReader& value, Visible visible, std::span<float> o);

}  // namespace etalon::exact

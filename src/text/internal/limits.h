// SPDX-License-Identifier: Apache-2.0
// Limits of this folder: what a tokenizer file may claim and how long a text may be.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace etalon::text {

/// Tokens of a vocabulary: four times the largest known (262,144).
inline constexpr std::size_t kVocabularyMax = std::size_t{1} << 20;

/// Merges: vocabularies hold about one a token, converted ones (all splits) up to four.
inline constexpr std::size_t kMergesMax = std::size_t{1} << 23;

/// Bytes of one token: vocabularies hold runs of at most some hundred spaces.
inline constexpr std::size_t kTokenBytesMax = 4096;

/// Bytes of one token that is searched in a text before it is split. The search reads at most so
/// many bytes at each position, which keeps it linear whatever the file says.
inline constexpr std::size_t kSpecialBytesMax = 512;

/// Bytes of all such tokens together: bounds the search tree (16 bytes a node).
inline constexpr std::size_t kSpecialBytesTotalMax = std::size_t{16} << 20;

/// Bytes of a text: more than any context takes; positions in it fit in 32 bits, also when every
/// space has become the three bytes of U+2581.
inline constexpr std::size_t kTextBytesMax = std::size_t{512} << 20;
static_assert(3 * (kTextBytesMax + 1) <= std::numeric_limits<std::int32_t>::max());

/// Bytes of a chat template: the longest known has 20 KB.
inline constexpr std::size_t kTemplateBytesMax = std::size_t{1} << 20;

}  // namespace etalon::text

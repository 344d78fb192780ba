// SPDX-License-Identifier: Apache-2.0
// Every limit of the messages, with its reason. What a field means for a model is checked by the
// engine; these bound what a hostile peer can make the reader hold.
#pragma once

#include <cstddef>
#include <cstdint>

namespace etalon::wire {

/// Token ids of one list: the longest context of any model is below.
inline constexpr std::size_t kTokensMax = std::size_t{1} << 24;
/// Text of one field: a prompt of kTokensMax tokens at the four bytes that a token of text has.
inline constexpr std::size_t kTextBytesMax = std::size_t{64} << 20;
/// One frame: the longest text or list of ids, and room for the other fields.
inline constexpr std::size_t kFrameBytesMax = std::size_t{72} << 20;
static_assert(kFrameBytesMax > kTextBytesMax && kFrameBytesMax > kTokensMax * 4);

/// Frames that the front queues for a worker which does not read: three of the largest.
inline constexpr std::size_t kQueuedBytesMax = 3 * kFrameBytesMax;
/// Bytes that one call reads: a turn of the reader's loop stays short.
inline constexpr std::size_t kReadBytesMax = std::size_t{1} << 20;

inline constexpr std::size_t kChatMessagesMax = 65536;  ///< a talk of years; 3 tokens each at least
inline constexpr std::size_t kNameBytesMax = 4096;      ///< tenants, models, counters: names
inline constexpr std::size_t kErrorBytesMax = 65536;    ///< a sentence that may quote a name
inline constexpr std::size_t kStopsMax = 4096;  ///< stop strings and stop tokens of a request
inline constexpr std::size_t kBiasesMax = 65536;
inline constexpr std::size_t kTopLogprobsMax = 256;
/// Tokens of one PromptLogprobs: more than any step computes.
inline constexpr std::size_t kPromptLogprobsMax = 8192;
inline constexpr int kChoicesMax = 4096;
inline constexpr std::size_t kInputsMax = 65536;  ///< of Embed
inline constexpr std::size_t kVectorMax = 65536;  ///< dimensions of an embedding
inline constexpr std::size_t kCountersMax = 1024;
inline constexpr int kVocabMax = 1 << 22;  ///< the largest known has 262,144

}  // namespace etalon::wire

// SPDX-License-Identifier: Apache-2.0
// Every limit of the engine, with its reason.
#pragma once

#include <cstddef>
#include <cstdint>

#include "exact/attention.h"
#include "weights/model_config.h"

namespace etalon::engine {

/// --- what one request may ask for ---
inline constexpr int kChoicesMax = 128;             ///< the largest n that known clients send
inline constexpr std::size_t kStopStringsMax = 16;  ///< public APIs allow 4; each costs every byte
inline constexpr std::size_t kStopBytesMax = 256;   ///< longest text that a stream may hold back
inline constexpr std::size_t kStopTokensMax = 256;  ///< more is a mask, not a stop
inline constexpr std::size_t kLogitBiasMax = 4096;  ///< applied one by one at every token
inline constexpr int kTopLogprobsMax = 20;          ///< as public APIs document
/// Log-probabilities of a prompt, a copy for each choice, are all held until the answer begins: 15
/// alternatives at each of 131,072 tokens, about 100 MB.
inline constexpr std::int64_t kPromptLogprobsMax = std::int64_t{1} << 21;
inline constexpr std::size_t kTenantBytesMax = 256;    ///< an account's name, not a text
inline constexpr std::size_t kCacheKeyBytesMax = 256;  ///< likewise
inline constexpr int kWeightMax = 1000;  ///< shares of 1 to 1000 keep virtual times far from 2^63

/// --- what may be unfinished at once ---
/// 5,000 idle streams are a goal of the server; twice that is a queue nobody waits for.
inline constexpr std::size_t kRequestsMax = 10000;
/// Tokens of prompts (a copy for each choice) and predictions, as 32-bit ids: 256 MiB.
inline constexpr std::int64_t kHeldTokensMax = std::int64_t{64} << 20;
static_assert(kHeldTokensMax >= std::int64_t{1} << 24, "the longest context alone must fit");

/// --- scheduling ---
/// Tokens of a prompt that one sequence gets before the next tenant is looked at: one page, so that
/// the share of a step is fair to 64 tokens and a sequence still gets them in one piece.
inline constexpr int kPrefillQuantum = exact::kPageTokens;

/// --- speculation ---
/// Longest proposal for one step. Beyond 8 even an acceptance of 90 % loses half of them.
inline constexpr int kDraftMax = 8;
inline constexpr int kDraftStart = 2;  ///< before anything is known of a request's acceptance
static_assert(kDraftStart >= 1 && kDraftStart <= kDraftMax);
/// Tokens that must agree for a proposal: one alone agrees by chance in any text, four are as sure
/// as more.
inline constexpr int kNgramMin = 2;
inline constexpr int kNgramMax = 4;
static_assert(kNgramMin >= 1 && kNgramMin <= kNgramMax);
/// How far back a proposal is searched: a bound on the host's work for one token (about 30 us).
inline constexpr std::size_t kLookupTokensMax = 65536;
/// Tokens without proposals after one that failed whole, doubled each time: a request whose text
/// never repeats soon pays nothing.
inline constexpr int kPauseMin = 4;
inline constexpr int kPauseMax = 256;

/// --- replay ---
/// Logits that are held at once, in floats, twice (device and host): 64 MiB each, more than makes a
/// chunk fast.
inline constexpr std::size_t kReplayLogitsMax = std::size_t{16} << 20;
inline constexpr std::size_t kReplayRowsMin = 1;  ///< of them, whatever the vocabulary

/// --- payloads ---
/// Tokens of prompt and answer: the longest context, and the last token, which is never computed.
inline constexpr std::size_t kPayloadTokensMax = std::size_t{weights::kContextMax} + 1;
inline constexpr std::size_t kModelNameBytesMax = 512;                  ///< a name, for messages
inline constexpr std::size_t kMaskKindBytesMax = 64;                    ///< a word
inline constexpr std::size_t kMaskTextBytesMax = std::size_t{4} << 20;  ///< a grammar or a schema
/// Bytes of a payload. The longest one has a token of ten digits, a comma and a checksum of 16 for
/// each position, and texts of which every byte may need an escape of six.
inline constexpr std::size_t kPayloadBytesMax = std::size_t{512} << 20;
static_assert(kPayloadBytesMax >= kPayloadTokensMax * (10 + 1 + 16) + 6 * kMaskTextBytesMax +
                                      6 * kStopStringsMax * kStopBytesMax + (1 << 20));

}  // namespace etalon::engine

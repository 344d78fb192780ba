// SPDX-License-Identifier: Apache-2.0
// Every limit of the server, with its reason.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

#include "ledger/limits.h"

namespace etalon::serve {

/// --- connections ---
/// 5,000 idle streams are a goal; twice that, and 10,000 sessions still are under 400 MiB.
inline constexpr std::size_t kConnectionsMax = 10000;
/// Requests on one connection before it is closed, so that a balancer can move clients away.
inline constexpr int kRequestsPerConnectionMax = 10000;
inline constexpr std::uint32_t kHeaderBytesMax = 16 << 10;  ///< keys and cookies, not content
inline constexpr std::size_t kTargetBytesMax = 2048;        ///< the longest path has a model's name
/// Text of the longest prompts: 16 MiB hold four bytes for each of 4 M tokens.
inline constexpr std::uint64_t kBodyBytesMax = std::uint64_t{16} << 20;
/// Bodies of all connections together; more are told to try later.
inline constexpr std::uint64_t kBodiesBytesMax = std::uint64_t{512} << 20;
static_assert(kBodiesBytesMax >= kBodyBytesMax);
/// What a client may send ahead: the rest stays in the kernel, which slows the client down.
inline constexpr std::size_t kReadAheadBytes = 64 << 10;
static_assert(kReadAheadBytes >= kHeaderBytesMax, "a header must fit");

/// --- time ---
inline constexpr std::chrono::seconds kIdleTime{75};    ///< between requests: as usual proxies do
inline constexpr std::chrono::seconds kHeaderTime{10};  ///< a header is one packet or few
inline constexpr std::chrono::seconds kBodyTime{60};    ///< 16 MiB at 2 Mbit/s
inline constexpr std::chrono::seconds kWriteTime{30};   ///< a client that reads nothing is gone
inline constexpr std::chrono::seconds kPingTime{15};    ///< proxies cut silence at 50 to 120 s
/// How often a client that has sent ahead is looked at: its end cannot be waited for.
inline constexpr std::chrono::seconds kGoneCheckTime{1};
inline constexpr std::chrono::seconds kDrainTime{90};  ///< of systemd's TimeoutStopSec
/// The worker's answer to a Prepare, Tokenize or AskCounters: tokenizing 16 MiB takes seconds.
inline constexpr std::chrono::seconds kWorkerAnswerTime{60};
/// Between two live digests of a worker's weights: each costs one pass over them.
inline constexpr std::chrono::hours kLiveCheckTime{1};
inline constexpr std::chrono::seconds kLiveRetryTime{5};  ///< where the worker is busy

/// --- answers that are derived again ---
inline constexpr std::int64_t kSelfCheckMax = 1'000'000'000;
inline constexpr std::chrono::seconds kSelfCheckPause{1};
inline constexpr std::size_t kHeldAnswersMax = 16;  ///< of a model, until its worker is idle
/// Longer answers cost too much to be derived twice.
inline constexpr std::size_t kHeldAnswerBytesMax = std::size_t{256} << 10;
/// Between starts of a worker that dies at once; doubled from the first to the second.
inline constexpr std::chrono::milliseconds kRestartTimeMin{100};
inline constexpr std::chrono::milliseconds kRestartTimeMax{30000};

/// --- content of requests ---
inline constexpr std::size_t kJsonDepthMax = 64;     ///< tools and schemas of real clients use 20
inline constexpr std::size_t kFieldsMax = 4096;      ///< of one object; logit_bias has the most
inline constexpr std::size_t kMessagesMax = 16384;   ///< turns of one conversation
inline constexpr std::size_t kPartsMax = 1024;       ///< chunks of one message
inline constexpr std::size_t kPromptsMax = 128;      ///< prompts of one completion request
inline constexpr std::size_t kInputsMax = 2048;      ///< texts of one embedding request
inline constexpr std::int64_t kTokensMax = 1 << 24;  ///< the longest context of any model
inline constexpr std::int64_t kTopKMax = 1 << 22;    ///< beyond any vocabulary
inline constexpr int kChoicesMax = 128;              ///< as public APIs document
inline constexpr int kTopLogprobsMax = 20;           ///< as public APIs document
inline constexpr std::size_t kStopStringsMax = 16;   ///< public APIs allow 4
inline constexpr std::size_t kStopBytesMax = 256;    ///< longest text that a stream may hold back
inline constexpr std::size_t kStopTokensMax = 256;   ///< more is a mask, not a stop
inline constexpr std::size_t kLogitBiasMax = 4096;   ///< applied at every token
static_assert(kFieldsMax <= kLogitBiasMax, "larger objects are refused before they are read");
inline constexpr std::size_t kModelBytesMax = 512;  ///< a model's name
inline constexpr std::size_t kCacheKeyBytesMax = 256;
inline constexpr std::size_t kLabelBytesMax = 1024;  ///< user, service_tier and their kin
inline constexpr std::size_t kIgnoredMax = 16;       ///< unknown fields that one header names
/// Answers and prompts of one request together, so that one request cannot fill the queue.
inline constexpr std::size_t kAnswersMax = 512;
static_assert(kAnswersMax >= kPromptsMax && kAnswersMax >= static_cast<std::size_t>(kChoicesMax));

/// --- the ledger ---
inline constexpr std::size_t kSubjectsMax = 16;  ///< as the ledger: each wraps the payload once
inline constexpr std::size_t kSubjectBytesMax = 256;

/// --- stored responses ---
/// Texts of one request whose response is stored: escaped, they take six times as much at most.
inline constexpr std::size_t kStoredInputBytesMax = std::size_t{2} << 20;
static_assert(6 * kStoredInputBytesMax < ledger::kStoredContentBytesMax);
/// Each turn that a conversation goes on from is read and opened.
inline constexpr std::size_t kTurnsMax = 256;
/// As public APIs document; they count characters.
inline constexpr std::size_t kMetadataMax = 16;
inline constexpr std::size_t kMetadataNameBytesMax = 64;
inline constexpr std::size_t kMetadataBytesMax = 512;
inline constexpr std::size_t kReasonBytesMax = 512;  ///< why content is read, as the record has it

/// --- accounts ---
inline constexpr std::size_t kTenantBytesMax = 64;
inline constexpr std::int64_t kRequestsPerMinuteMax = 1'000'000;
inline constexpr std::int64_t kTokensPerDayMax = std::int64_t{1} << 50;
/// Keys whose pace is remembered; older ones start with a full minute again.
inline constexpr std::size_t kPacesMax = 100'000;

}  // namespace etalon::serve

// SPDX-License-Identifier: Apache-2.0
// Every limit of a worker, with its reason.
#pragma once

#include <chrono>
#include <cstddef>

namespace etalon::worker {

/// Files of a model's folder that may be read: the largest known model has 191 shards.
inline constexpr std::size_t kModelFilesMax = 4096;

/// Tokens of one step and answers computed at once: what engine::EngineOptions proposes for a CPU.
inline constexpr int kBatchTokens = 256;
inline constexpr int kSequencesMax = 32;

/// The same on a card, which is filled by more. E4 weights become int8 once a step: 4,096 tokens
/// are 5 % faster than 2,048 there, and 2 % in E8; those who wait for their next token meanwhile
/// wait 60 ms in a model of 7 billion parameters.
inline constexpr int kCardBatchTokens = 4096;
inline constexpr int kCardSequencesMax = 256;
inline constexpr int kCardDraftTokensMax = 256;

/// Whole contexts that the KV cache holds when nothing is said about its size: a few long talks, or
/// many short ones with room for their prefixes.
inline constexpr int kDefaultContexts = 4;

/// Vectors of one answer to Embed: what a frame of wire has room for beside them.
inline constexpr std::size_t kVectorsBytesMax = std::size_t{64} << 20;

/// An answer that is derived again has memory of its own for keys and values: at most this part of
/// the cache of those that people wait for.
inline constexpr int kReplayCacheShare = 8;
/// It waits so long for the others to pause.
inline constexpr std::chrono::minutes kReplayWait{10};

/// Unsent bytes at which a worker stops computing and reading until the front takes some. A stream
/// has about 200 bytes a token, so this is what 32 answers write in minutes.
inline constexpr std::size_t kUnsentBytesMax = std::size_t{4} << 20;

}  // namespace etalon::worker

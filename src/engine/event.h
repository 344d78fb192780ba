// SPDX-License-Identifier: Apache-2.0
// What the engine says: tokens as they are drawn, the end of each choice, the end of a request.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/sha256.h"
#include "engine/request.h"

namespace etalon::engine {

/// A point in time since any fixed one; the caller's clock, never read here.
using Time = std::chrono::nanoseconds;

struct TokenLogprobs {
    float logprob = 0.0F;                             ///< of the token (SMP-11)
    std::vector<std::pair<std::int32_t, float>> top;  ///< SMP-12
};

/// A sampled token. Every token of an answer has one, the token that ends it too.
struct TokenEvent {
    RequestId request = 0;
    int choice = 0;
    std::int32_t token = 0;
    std::uint64_t checksum = 0;  ///< CHK-1 of the logits that it was drawn from
    std::string text;            ///< what can be shown now: whole characters, no part of a stop
    std::optional<TokenLogprobs> logprobs;
};

enum class FinishReason : std::uint8_t {
    stop,       ///< an end token, a stop token or a stop string
    length,     ///< max_tokens, or the context is full
    cancelled,  ///< by cancel()
    error,      ///< ERR-1 to ERR-3
};

struct ChoiceFinished {
    RequestId request = 0;
    int choice = 0;
    FinishReason reason = FinishReason::stop;
    std::string text;  ///< what was held back and belongs to the answer
    std::optional<std::int32_t> stop_token;
    std::optional<std::size_t> stop_string;  ///< index into Request::stop_strings
    std::string error;                       ///< FinishReason::error: what, at which token
    int n_tokens = 0;                        ///< of the answer
    Sha256Digest digest{};                   ///< DIG-3: every token event's token and checksum
};

struct Usage {
    int prompt_tokens = 0;
    int cached_tokens = 0;  ///< of the prompt: found in the prefix cache when it was started first
    int answer_tokens = 0;  ///< of all choices
    int computed_tokens = 0;  ///< positions that went through the model, again or in vain too
    int drafted_tokens = 0;
    int accepted_tokens = 0;  ///< of the drafted ones
    int preemptions = 0;
    Time queued{};  ///< from submit to the first step that computed for it, or to the end
};

/// The last event of a request.
struct RequestFinished {
    RequestId request = 0;
    Usage usage;
};

/// Tokens of a prompt with their log-probabilities, in order, before the first token of any choice.
/// The first token of all has none: its logprob is 0 and its top is empty.
struct PromptLogprobs {
    RequestId request = 0;
    std::vector<std::int32_t> tokens;
    std::vector<TokenLogprobs> logprobs;  ///< one a token
};

/// The vector of a request that asks for one (VEC-1 to VEC-3); [dim].
struct EmbeddingEvent {
    RequestId request = 0;
    std::vector<float> vector;
};

using Event =
    std::variant<TokenEvent, ChoiceFinished, RequestFinished, PromptLogprobs, EmbeddingEvent>;

/// Totals since the engine was made, and what it holds now.
struct Counters {
    std::uint64_t steps = 0;
    std::uint64_t computed_tokens = 0;
    std::uint64_t sampled_tokens = 0;
    std::uint64_t cached_tokens = 0;  ///< positions found in the prefix cache
    std::uint64_t shared_pages = 0;   ///< times that a sequence took a page which another filled
    std::uint64_t evicted_pages = 0;  ///< cached pages given up for others
    std::uint64_t preemptions = 0;
    std::uint64_t cancelled = 0;  ///< requests
    std::uint64_t drafted_tokens = 0;
    std::uint64_t accepted_tokens = 0;
    int requests = 0;  ///< unfinished
    int running = 0;   ///< sequences that hold pages
    int waiting = 0;   ///< sequences that hold none
    int pages_free = 0;
    int pages_cached = 0;  ///< held by the prefix cache alone
    int pages_total = 0;
};

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// What is asked of the engine, as values: tokens in, parameters, whose it is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "exact/sampler.h"

namespace etalon::engine {

/// Number of a request in its engine, from 1; never used again.
using RequestId = std::uint64_t;

/// Takes tokens away before one is drawn (SMP-4); a grammar is one. A pure function of the answer
/// so far: the engine asks it again after a preemption and for proposals that are then dropped.
class TokenMask {
  public:
    virtual ~TokenMask() = default;
    /// Sets allowed[id] = false for what may not follow `answer`; [vocab_size].
    virtual void restrict(std::span<const std::int32_t> answer, std::span<bool> allowed) const = 0;
};

struct Request {
    std::string tenant;     ///< whose share of the machine and whose prefix cache; not empty
    std::string cache_key;  ///< narrows the tenant's prefix cache to requests with the same key
    int weight = 1;         ///< share of the tenant, [1, kWeightMax]; the latest request's counts

    std::vector<std::int32_t> prompt;      ///< at least one token
    std::vector<std::int32_t> prediction;  ///< what the answer may repeat; changes no bit

    exact::SamplingParameters sampling;  ///< its seed is not read
    std::optional<std::uint64_t> seed;   ///< absent: the engine draws one and says which
    int n = 1;                           ///< answers, [1, kChoicesMax]
    std::optional<int> max_tokens;       ///< of each answer, >= 1; absent: what fits
    int min_tokens = 0;  ///< so many tokens of an answer neither end it nor begin a stop string
    bool ignore_eos = false;                ///< the model's own end tokens end nothing
    std::vector<std::int32_t> stop_tokens;  ///< end the answer; their text is not shown
    std::vector<std::string> stop_strings;  ///< UTF-8; the answer's text ends before the first
    std::optional<int> top_logprobs;        ///< absent: no log-probabilities; [0, kTopLogprobsMax]
    bool prompt_logprobs = false;  ///< of the prompt's own tokens too, as top_logprobs says
    bool embed = false;            ///< the vector of the prompt and no answer; n is 1
    bool normalize = true;         ///< of the vector: VEC-3
    bool speculate = true;         ///< changes no bit
    std::shared_ptr<const TokenMask> mask;  ///< may be null
};

/// Why a request was not accepted: the field, and an Error of code usage (it will never fit) or
/// try_later (the queue is full).
struct Refusal {
    std::string field;
    Error error;
};

/// What the engine can hold, for the checks below.
struct Room {
    int vocab_size = 0;
    int context_tokens = 0;            ///< of the model
    int cache_tokens = 0;              ///< of the whole KV cache
    std::uint64_t kv_token_bytes = 0;  ///< for the message
};

/// The first field that is outside its range or does not fit, else nullopt. A prompt that does not
/// fit is refused with both counts.
std::optional<Refusal> check_request(const Request& request, const Room& room);

/// Tokens that the engine keeps for the request: prompt and prediction, and the prompt again in
/// each choice. At most kHeldTokensMax over all requests.
std::int64_t held_tokens(const Request& request) noexcept;

/// max_tokens, or what the room leaves when it is absent; 0 for a vector. The request has passed
/// check_request.
int answer_tokens_max(const Request& request, const Room& room);

}  // namespace etalon::engine

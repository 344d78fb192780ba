// SPDX-License-Identifier: Apache-2.0
// One answer in the making: a choice of a request, its tokens, its pages, how far it is computed.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "engine/answer_text.h"
#include "engine/event.h"
#include "engine/kv_pages.h"
#include "engine/request.h"
#include "engine/speculation.h"
#include "exact/digest.h"
#include "exact/pool.h"

namespace etalon::engine {

enum class Phase : std::uint8_t {
    held,     ///< waits for the first choice to compute the prompt that they share
    waiting,  ///< has no pages: new, or preempted
    running,  ///< has pages for all of its tokens
    finished,
};

struct Sequence {
    /// Request and usage outlive the sequence; order is unique and grows with every sequence made.
    Sequence(const Request& its_request, RequestId id, Usage& its_usage, int its_choice,
             std::uint64_t its_order, int answer_tokens_max, const text::Tokenizer& tokenizer)
        : request(&its_request),
          request_id(id),
          usage(&its_usage),
          choice(its_choice),
          order(its_order),
          n_tokens_max(static_cast<int>(its_request.prompt.size()) + answer_tokens_max),
          tokens(its_request.prompt),
          drafter(!its_request.prediction.empty()),
          text(tokenizer, its_request.stop_strings, its_request.min_tokens) {}

    int n_tokens() const noexcept { return static_cast<int>(tokens.size()); }
    int n_prompt() const noexcept { return static_cast<int>(request->prompt.size()); }
    /// Every position of the prompt has to be computed, cached or not: its hidden state or its
    /// logits are wanted.
    bool reads_prompt() const noexcept {
        if (request->embed) return true;
        return request->prompt_logprobs && choice == 0 && n_prompt_told < n_prompt();
    }
    int n_answer() const noexcept { return n_tokens() - n_prompt(); }
    /// Tokens that have to be computed before the next one can be drawn, at least 1.
    int n_missing() const noexcept { return n_tokens() - n_computed; }
    /// All but the newest token are computed: one token a step.
    bool decodes() const noexcept { return n_missing() == 1; }
    PrefixTree::Partition partition() const { return {request->tenant, request->cache_key, epoch}; }

    const Request* request;
    RequestId request_id;
    Usage* usage;
    int choice;
    std::uint64_t order;
    std::uint64_t epoch = 0;           ///< of the prefix cache, when the request came
    int n_tokens_max;                  ///< of prompt and answer
    std::vector<std::int32_t> tokens;  ///< prompt, then the answer so far
    int n_computed = 0;                ///< leading tokens whose keys and values are in the pages
    bool was_started = false;
    Phase phase = Phase::held;
    PageTable table;
    Drafter drafter;
    AnswerText text;
    exact::RunDigest digest;  ///< DIG-3
    int n_prompt_told = 0;    ///< prompt tokens whose log-probabilities were told
    std::optional<exact::MeanPool> pool;
};

}  // namespace etalon::engine

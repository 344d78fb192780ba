// SPDX-License-Identifier: Apache-2.0
// Fields that every route which answers has: how tokens are drawn, where an answer ends, how it is
// sent. Ranges are those of the public APIs; what depends on the model is checked by the worker.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "serve/dialect.h"
#include "serve/fields.h"
#include "wire/messages.h"

namespace etalon::serve {

/// What is common to the requests of all routes that answer.
struct AnswerRequest {
    std::string model;
    wire::Sampling sampling;
    std::string cache_key;
    bool stream = false;
    bool include_usage = false;
    std::vector<std::string> ignored;  ///< fields that have no effect, as the client named them
};

/// Errors of all of these: ApiError 400 with the field's name.

/// `model`, `stream`, `stream_options`, `prompt_cache_key` and labels without effect.
void read_common(Fields& fields, AnswerRequest& request);
/// temperature, top_p, top_k, min_p, penalties, logit_bias, seed or random_seed, n, stop,
/// stop_token_ids, min_tokens, ignore_eos, max_tokens, max_completion_tokens (the smaller counts).
/// `max_tokens_min`: 1, or 0 where an answer without a token makes sense.
void read_sampling(Fields& fields, wire::Sampling& sampling, std::int64_t max_tokens_min);
/// "Refused by name" for fields with a meaning that this server does not have: each is accepted
/// only where its value asks for nothing.
void refuse_unsupported(Fields& fields);
/// `store` likewise: of the routes that answer, /v1/responses alone stores.
void refuse_store(Fields& fields);
/// Fields that nobody read join request.ignored.
void note_ignored(const Fields& fields, AnswerRequest& request);

/// A seed that every client can hold: 53 random bits, so that JavaScript keeps all of them.
std::uint64_t draw_seed();

}  // namespace etalon::serve

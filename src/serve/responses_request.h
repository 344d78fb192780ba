// SPDX-License-Identifier: Apache-2.0
// The body of POST /v1/responses.
#pragma once

#include <string>
#include <string_view>

#include "serve/sampling_fields.h"
#include "wire/messages.h"

namespace etalon::serve {

/// Stateless: the whole conversation is in `input`, and nothing is kept.
struct ResponsesRequest : AnswerRequest {
    wire::ChatPrompt prompt;   ///< instructions, then the input
    std::string instructions;  ///< repeated in the answer; empty: none
};

/// Errors: ApiError 400 with the name of the field. Refused by name are what needs a memory
/// (store, previous_response_id, conversation, background), tools, and contents that are no text.
ResponsesRequest parse_responses_request(std::string_view body);

}  // namespace etalon::serve

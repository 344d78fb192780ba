// SPDX-License-Identifier: Apache-2.0
// The body of POST /v1/responses.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "serve/sampling_fields.h"
#include "serve/stored_turn.h"
#include "wire/messages.h"

namespace etalon::serve {

/// Nothing is kept unless `store` asks for it.
struct ResponsesRequest : AnswerRequest {
    wire::ChatPrompt prompt;         ///< instructions, then the input
    std::size_t n_instructions = 0;  ///< messages of it before the input
    std::string instructions;        ///< repeated in the answer; empty: none
    bool store = false;
    std::string previous;          ///< id of the response that this one goes on from; empty: none
    std::vector<InputItem> input;  ///< where `store` is true
    std::vector<std::pair<std::string, std::string>> metadata;  ///< repeated in the answer
};

/// Errors: ApiError 400 with the name of the field. Refused by name are conversation, prompt,
/// background, tools, and contents that are no text.
ResponsesRequest parse_responses_request(std::string_view body);

}  // namespace etalon::serve

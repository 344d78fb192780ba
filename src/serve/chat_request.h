// SPDX-License-Identifier: Apache-2.0
// The body of POST /v1/chat/completions, in either dialect.
#pragma once

#include <string_view>

#include "serve/dialect.h"
#include "serve/sampling_fields.h"
#include "wire/messages.h"

namespace etalon::serve {

struct ChatRequest : AnswerRequest {
    wire::ChatPrompt prompt;
};

/// Errors: ApiError 400 with the name of the field, unsupported contents by name.
ChatRequest parse_chat_request(std::string_view body, Dialect dialect);

}  // namespace etalon::serve

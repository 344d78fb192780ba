// SPDX-License-Identifier: Apache-2.0
// The bodies of POST /v1/completions and POST /v1/fim/completions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "serve/sampling_fields.h"
#include "wire/messages.h"

namespace etalon::serve {

struct CompletionRequest : AnswerRequest {
    std::vector<wire::Prompt> prompts;  ///< at least one
    bool echo = false;                  ///< the answer's text begins with the prompt
    bool prompt_logprobs = false;       ///< of the echoed prompt too
    bool only_echo = false;             ///< max_tokens 0: the token that is computed is not shown
};

/// `prompt`: a text, texts, token ids, or lists of token ids; with `suffix` a text alone.
/// Errors: ApiError 400 with the name of the field.
CompletionRequest parse_completion_request(std::string_view body);

/// The same fields as Mistral's FIM has them: prompt and suffix, one of each.
CompletionRequest parse_fim_request(std::string_view body);

}  // namespace etalon::serve

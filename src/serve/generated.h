// SPDX-License-Identifier: Apache-2.0
// Answers that are generated token by token, in the shapes of chat completions and completions,
// whole or as a stream.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer.h"
#include "serve/dialect.h"

namespace etalon::serve {

/// What of the request its answer depends on.
struct AnswerPlan {
    std::string id;  ///< "chatcmpl-..."
    std::int64_t created = 0;
    std::string model;
    std::string fingerprint;  ///< of the server and the weights
    Dialect dialect = Dialect::openai;
    bool stream = false;
    bool include_usage = false;
    bool has_logprobs = false;
    bool has_max_tokens = false;
    std::size_t n_parts = 1;
    int n = 1;  ///< choices of each part
    /// One a part, or none: text before each of its choices; nullopt: the text of its tokens.
    std::vector<std::optional<std::string>> prefixes;
    bool prompt_logprobs = false;  ///< of the prefixes' tokens
    bool only_prefix = false;      ///< the generated text is not shown
};

/// choices[].message and choices[].delta.
std::unique_ptr<Answer> make_chat_answer(AnswerPlan plan);
/// choices[].text.
std::unique_ptr<Answer> make_completion_answer(AnswerPlan plan);

}  // namespace etalon::serve

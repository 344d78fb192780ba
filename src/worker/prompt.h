// SPDX-License-Identifier: Apache-2.0
// From what is asked to prompt tokens, with what the model and its vocabulary know.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "wire/messages.h"
#include "worker/loaded_model.h"

namespace etalon::worker {

/// Why a prompt has no tokens; an answer to whichever message it came in.
struct PromptRefusal {
    wire::RefusalKind kind = wire::RefusalKind::invalid;
    std::string field;
    std::string message;
};

using PromptTokens = std::variant<std::vector<std::int32_t>, PromptRefusal>;

/// Every id lies inside the model's vocabulary. No text of a person becomes a control token.
PromptTokens encode_prompt(const LoadedModel& model, const wire::Prompt& prompt);

}  // namespace etalon::worker

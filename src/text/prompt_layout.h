// SPDX-License-Identifier: Apache-2.0
// From a conversation to prompt tokens, in the layout the model was trained on.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace etalon::text {

enum class Role : std::uint8_t { system, user, assistant };

struct Message {
    Role role;
    std::string content;
};

enum class PromptLayout : std::uint8_t { chatml, llama3, mistral_v1, mistral_v3 };

/// The layout that a model's chat template describes; nullopt for one that is not known. The
/// decision looks at the template's text (markers and roles), never runs it.
std::optional<PromptLayout> layout_of(const TokenizerData& data);

std::string_view layout_name(PromptLayout layout);

/// Prompt tokens of a conversation that ends with a user message, up to where the assistant starts.
/// Contents are encoded without special tokens, so no content can forge a role. chatml: a default
/// system message that the template itself inserts when none is given is inserted here as well.
/// Errors: usage (wrong order of roles, empty conversation), invalid (a marker is no token).
std::vector<std::int32_t> encode_conversation(const Tokenizer& tokenizer, PromptLayout layout,
                                              const std::vector<Message>& messages);

}  // namespace etalon::text

// SPDX-License-Identifier: Apache-2.0
// The four kinds of prompt.
#include "worker/prompt.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "wire/limits.h"

namespace etalon::worker {

namespace {

text::Role role_of(wire::Role role) {
    switch (role) {
        case wire::Role::system:
            return text::Role::system;
        case wire::Role::user:
            return text::Role::user;
        case wire::Role::assistant:
            break;
    }
    return text::Role::assistant;
}

PromptTokens unsupported(const char* field, const char* message) {
    return PromptRefusal{wire::RefusalKind::unsupported, field, message};
}

/// A conversation; one that goes on from the assistant's last message is the conversation before
/// it and then its text, as the layouts write an answer.
PromptTokens encode(const LoadedModel& model, const wire::ChatPrompt& chat) {
    if (!model.layout()) {
        return unsupported("messages", "this model has no chat template that is known");
    }
    std::vector<text::Message> messages;
    for (const wire::ChatMessage& message : chat.messages)
        messages.push_back({role_of(message.role), message.content});
    std::string begun;
    if (chat.continue_last) {
        if (messages.empty() || messages.back().role != text::Role::assistant) {
            return PromptRefusal{wire::RefusalKind::invalid, "messages",
                                 "only an assistant's last message can be continued"};
        }
        begun = std::move(messages.back().content);
        messages.pop_back();
    }
    std::vector<std::int32_t> ids;
    try {
        ids = text::encode_conversation(model.tokenizer(), *model.layout(), messages);
    } catch (const Error& error) {
        const auto kind = error.code() == ExitCode::usage ? wire::RefusalKind::invalid
                                                          : wire::RefusalKind::unsupported;
        return PromptRefusal{kind, "messages", error.message()};
    }
    if (begun.empty()) return ids;
    const auto rest = model.tokenizer().encode(begun, {.special = false, .add_bos = false});
    ids.insert(ids.end(), rest.begin(), rest.end());
    return ids;
}

PromptTokens encode(const LoadedModel& model, const wire::TextPrompt& prompt) {
    return model.tokenizer().encode(prompt.text, {.special = false});
}

PromptTokens encode(const LoadedModel&, const wire::TokenPrompt& prompt) {
    return prompt.tokens;
}

PromptTokens encode(const LoadedModel& model, const wire::FimPrompt& prompt) {
    if (!model.fim()) {
        return unsupported("suffix", "this model has no tokens for fill-in-the-middle");
    }
    return text::encode_fim(model.tokenizer(), *model.fim(), prompt.prefix, prompt.suffix);
}

}  // namespace

PromptTokens encode_prompt(const LoadedModel& model, const wire::Prompt& prompt) {
    PromptTokens result =
        std::visit([&](const auto& content) { return encode(model, content); }, prompt);
    const auto* ids = std::get_if<std::vector<std::int32_t>>(&result);
    if (ids == nullptr) return result;
    if (ids->size() > wire::kTokensMax) {
        return PromptRefusal{wire::RefusalKind::too_long, "prompt",
                             fmt::format("the prompt has {} tokens, the context holds {}",
                                         ids->size(), model.room().context_tokens)};
    }
    // A tokenizer may know more tokens than the model has rows.
    const int vocab_size = model.room().vocab_size;
    const auto bad = std::find_if(ids->begin(), ids->end(),
                                  [&](std::int32_t id) { return id < 0 || id >= vocab_size; });
    if (bad == ids->end()) return result;
    return PromptRefusal{
        wire::RefusalKind::invalid, "prompt",
        fmt::format("prompt: token {} is outside the vocabulary of {}", *bad, vocab_size)};
}

}  // namespace etalon::worker

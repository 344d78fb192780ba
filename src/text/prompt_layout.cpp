// SPDX-License-Identifier: Apache-2.0
// The four prompt layouts, token by token. Nothing here runs a template: what a template says is
// recognised by its text.
#include "text/prompt_layout.h"

#include <algorithm>

#include "base/error.h"

namespace etalon::text {
namespace {

constexpr std::string_view kChatmlStart = "<|im_start|>";
constexpr std::string_view kChatmlEnd = "<|im_end|>";

/// Put by the templates of Llama 3.1 and later, with this date when the caller gives none.
constexpr std::string_view kLlama31Mark = "Cutting Knowledge Date: December 2023";
constexpr std::string_view kLlama31System =
    "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n";

bool has(std::string_view text, std::string_view part) {
    return text.find(part) != std::string_view::npos;
}

bool has_control_token(const TokenizerData& data, std::string_view text) {
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        if (data.types[i] == TokenType::control && data.tokens[i] == text) return true;
    }
    return false;
}

std::string_view role_name(Role role) {
    switch (role) {
        case Role::system:
            return "system";
        case Role::user:
            return "user";
        case Role::assistant:
            return "assistant";
    }
    ETALON_ASSERT(false);
    return "";
}

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view kSpaces = " \t\n\v\f\r";
    const auto first = text.find_first_not_of(kSpaces);
    if (first == std::string_view::npos) return "";
    return text.substr(first, text.find_last_not_of(kSpaces) + 1 - first);
}

/// The text at template[at] up to "<|im_end|>", with the escapes of a Jinja string resolved; ""
/// when the string literal (or, outside of one, the plain text) ends before, or another message
/// starts: so no part of a template is read twice, however often a message starts in it.
std::string literal_until_end(std::string_view chat_template, std::size_t at, char quote) {
    std::string out;
    while (at < chat_template.size()) {
        if (chat_template.substr(at).starts_with(kChatmlEnd)) return out;
        if (chat_template.substr(at).starts_with(kChatmlStart)) return "";
        char c = chat_template[at++];
        const bool in_literal = quote != '\0';
        if (in_literal ? c == quote : c == '{') return "";
        if (in_literal && c == '\\' && at < chat_template.size()) {
            c = chat_template[at++];
            if (c == 'n') c = '\n';
            if (c == 't') c = '\t';
        }
        out.push_back(c);
    }
    return "";
}

/// The system message that a ChatML template inserts when a conversation has none, "" when it
/// inserts none. Such a message stands in the template as one text between the markers:
///   {{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
std::string default_system_message(std::string_view chat_template) {
    constexpr std::string_view kBegin = "<|im_start|>system";
    for (auto at = chat_template.find(kBegin); at != std::string_view::npos;
         at = chat_template.find(kBegin, at + 1)) {
        const char before = at == 0 ? '\0' : chat_template[at - 1];
        const char quote = before == '\'' || before == '"' ? before : '\0';
        const auto text = literal_until_end(chat_template, at + kBegin.size(), quote);
        if (text.size() > 1 && text.front() == '\n') return text.substr(1);
    }
    return "";
}

void check_roles(const std::vector<Message>& messages) {
    const bool has_system = !messages.empty() && messages[0].role == Role::system;
    const std::size_t first = has_system ? 1 : 0;
    for (std::size_t i = first; i < messages.size(); ++i) {
        const Role expected = (i - first) % 2 == 0 ? Role::user : Role::assistant;
        if (messages[i].role == expected) continue;
        throw Error(ExitCode::usage, "message " + std::to_string(i + 1) + " must be of role " +
                                         std::string(role_name(expected)) + ", not " +
                                         std::string(role_name(messages[i].role)));
    }
    if (messages.empty() || messages.back().role != Role::user) {
        throw Error(ExitCode::usage, "a conversation must end with a message of role user");
    }
}

/// Collects the tokens of a prompt: markers by name, contents as plain text.
class PromptWriter {
  public:
    explicit PromptWriter(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

    void bos_if_wanted() {
        if (tokenizer_.data().add_bos) bos();
    }
    void bos() {
        if (tokenizer_.data().bos != kNoToken) ids_.push_back(tokenizer_.data().bos);
    }
    void eos() {
        if (tokenizer_.data().eos == kNoToken) {
            throw Error(ExitCode::invalid, "tokenizer eos: this prompt layout needs one");
        }
        ids_.push_back(tokenizer_.data().eos);
    }
    void marker(std::string_view name) {
        const TokenizerData& data = tokenizer_.data();
        for (std::size_t i = 0; i < data.tokens.size(); ++i) {
            if (data.types[i] != TokenType::control || data.tokens[i] != name) continue;
            ids_.push_back(static_cast<std::int32_t>(i));
            return;
        }
        throw Error(ExitCode::invalid, "tokenizer tokens: the prompt layout needs '" +
                                           std::string(name) + "', which is no control token");
    }
    void text(const std::string& content) {
        const auto ids = tokenizer_.encode(content, {.special = false, .add_bos = false});
        ids_.insert(ids_.end(), ids.begin(), ids.end());
    }
    std::vector<std::int32_t> take() { return std::move(ids_); }

  private:
    const Tokenizer& tokenizer_;
    std::vector<std::int32_t> ids_;
};

/// <|im_start|>role\ncontent<|im_end|>\n ... <|im_start|>assistant\n
void write_chatml(PromptWriter& out, const std::vector<Message>& messages) {
    out.bos_if_wanted();
    for (const auto& message : messages) {
        out.marker(kChatmlStart);
        out.text(std::string(role_name(message.role)) + "\n" + message.content);
        out.marker(kChatmlEnd);
        out.text("\n");
    }
    out.marker(kChatmlStart);
    out.text("assistant\n");
}

void write_llama3_header(PromptWriter& out, std::string_view role) {
    out.marker("<|start_header_id|>");
    out.text(std::string(role));
    out.marker("<|end_header_id|>");
}

/// <|begin_of_text|> (<|start_header_id|>role<|end_header_id|>\n\ncontent<|eot_id|>)* and the
/// header of the assistant.
void write_llama3(PromptWriter& out, const std::vector<Message>& messages) {
    out.bos();
    for (const auto& message : messages) {
        write_llama3_header(out, role_name(message.role));
        out.text("\n\n" + message.content);
        out.marker("<|eot_id|>");
    }
    write_llama3_header(out, "assistant");
    out.text("\n\n");
}

/// v1: the markers are plain text, and the system message stands before the first user message.
void write_mistral_v1(PromptWriter& out, const std::vector<Message>& messages) {
    out.bos();
    std::string system;
    for (const auto& message : messages) {
        if (message.role == Role::system) {
            system = message.content + "\n\n";
        } else if (message.role == Role::user) {
            out.text("[INST] " + system + message.content + " [/INST]");
            system.clear();
        } else {
            out.text(message.content);
            out.eos();
        }
    }
}

/// v3: the markers are tokens, and the system message stands before the last user message. Each
/// text between tokens is encoded on its own.
void write_mistral_v3(PromptWriter& out, const std::vector<Message>& messages) {
    out.bos();
    std::string system;
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const Message& message = messages[i];
        if (message.role == Role::system) {
            system = message.content + "\n\n";
        } else if (message.role == Role::user) {
            const bool last = i + 1 == messages.size();
            out.marker("[INST]");
            out.text(last ? system + message.content : message.content);
            out.marker("[/INST]");
        } else {
            const auto text_end = message.content.find_last_not_of(' ');
            out.text(message.content.substr(0, text_end + 1));
            out.eos();
        }
    }
}

/// `messages` as the model's template changes them: the system message that it inserts, and for
/// Llama-3 contents without space around them.
std::vector<Message> as_template_does(const TokenizerData& data, PromptLayout layout,
                                      std::vector<Message> messages) {
    const bool has_system = messages.front().role == Role::system;
    const std::string& chat_template = data.chat_template;
    if (layout == PromptLayout::chatml && !has_system) {
        auto text = default_system_message(chat_template);
        if (!text.empty()) messages.insert(messages.begin(), {Role::system, std::move(text)});
    }
    if (layout == PromptLayout::llama3) {
        for (auto& message : messages)
            message.content = std::string(trimmed(message.content));
        if (!has(chat_template, kLlama31Mark)) return messages;
        if (!has_system) messages.insert(messages.begin(), {Role::system, ""});
        messages.front().content = std::string(kLlama31System) + messages.front().content;
    }
    return messages;
}

}  // namespace

std::optional<PromptLayout> layout_of(const TokenizerData& data) {
    const std::string_view chat_template = data.chat_template;
    const bool chatml = has(chat_template, kChatmlStart) && has(chat_template, kChatmlEnd);
    const bool llama3 = has(chat_template, "<|start_header_id|>") &&
                        has(chat_template, "<|end_header_id|>") && has(chat_template, "<|eot_id|>");
    const bool mistral = has(chat_template, "[INST]") && has(chat_template, "[/INST]");
    if (int{chatml} + int{llama3} + int{mistral} != 1) return std::nullopt;
    if (chatml) {
        // Phi-4 puts a further marker between role and content.
        return has(chat_template, "<|im_sep|>") ? std::nullopt
                                                : std::optional(PromptLayout::chatml);
    }
    if (llama3) return PromptLayout::llama3;
    // Llama-2 has markers of its own for the system message; Mistral from v7 on as well.
    if (has(chat_template, "<<SYS>>") || has(chat_template, "[SYSTEM_PROMPT]")) {
        return std::nullopt;
    }
    return has_control_token(data, "[INST]") ? PromptLayout::mistral_v3 : PromptLayout::mistral_v1;
}

std::string_view layout_name(PromptLayout layout) {
    switch (layout) {
        case PromptLayout::chatml:
            return "chatml";
        case PromptLayout::llama3:
            return "llama3";
        case PromptLayout::mistral_v1:
            return "mistral_v1";
        case PromptLayout::mistral_v3:
            return "mistral_v3";
    }
    ETALON_ASSERT(false);
    return "";
}

std::vector<std::int32_t> encode_conversation(const Tokenizer& tokenizer, PromptLayout layout,
                                              const std::vector<Message>& messages) {
    check_roles(messages);
    const auto all = as_template_does(tokenizer.data(), layout, messages);
    PromptWriter out(tokenizer);
    switch (layout) {
        case PromptLayout::chatml:
            write_chatml(out, all);
            break;
        case PromptLayout::llama3:
            write_llama3(out, all);
            break;
        case PromptLayout::mistral_v1:
            write_mistral_v1(out, all);
            break;
        case PromptLayout::mistral_v3:
            write_mistral_v3(out, all);
            break;
    }
    return out.take();
}

}  // namespace etalon::text

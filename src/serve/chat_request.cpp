// SPDX-License-Identifier: Apache-2.0
// From JSON to a conversation.
#include "serve/chat_request.h"

#include <fmt/format.h>

#include "base/error.h"
#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace dom = simdjson::dom;

namespace {

/// What Mistral documents for safe_prompt: this text stands before the conversation.
constexpr const char* kSafePrompt =
    "Always assist with care, respect, and truth. Respond with utmost utility yet securely. Avoid "
    "harmful, unethical, prejudiced, or negative content. Ensure replies promote fairness and "
    "positivity.";

wire::Role role_of(Fields& message) {
    const auto role = message.text("role", kLabelBytesMax);
    const std::string where = message.path("role");
    if (!role) throw field_error(where, where + " is missing");
    if (*role == "user") return wire::Role::user;
    if (*role == "assistant") return wire::Role::assistant;
    if (*role == "system" || *role == "developer") return wire::Role::system;
    if (*role == "tool" || *role == "function") {
        throw unsupported(where, where + ": calling tools is not available on this server");
    }
    throw field_error(where, fmt::format("{} is {}, accepted are system, developer, user and "
                                         "assistant",
                                         where, printable(*role, 32)));
}

/// The text of one chunk of a content: anything that is no text is refused by its type.
std::string chunk_text_of(dom::element chunk, const std::string& where) {
    dom::object object;
    if (chunk.get(object) != simdjson::SUCCESS) {
        std::string_view text;
        if (chunk.get(text) == simdjson::SUCCESS) return std::string(text);
        throw field_error(where, where + " is neither an object nor a string");
    }
    Fields fields(object, where + ".");
    const auto type = fields.text("type", kLabelBytesMax);
    if (!type) throw field_error(fields.path("type"), fields.path("type") + " is missing");
    if (*type != "text" && *type != "refusal") {
        throw unsupported(where, fmt::format("{}: content of type {} is not available on this "
                                             "server",
                                             where, printable(*type, 32)));
    }
    const auto text = fields.text(*type, kBodyBytesMax);
    if (!text) throw field_error(fields.path(*type), fields.path(*type) + " is missing");
    return std::string(*text);
}

std::string content_of(Fields& message, wire::Role role) {
    const auto content = message.any("content");
    const std::string where = message.path("content");
    if (!content) {
        // An assistant's turn without content is what clients keep of an empty answer.
        if (role == wire::Role::assistant) return "";
        throw field_error(where, where + " is missing");
    }
    std::string_view text;
    if (content->get(text) == simdjson::SUCCESS) return std::string(text);
    if (!content->is_array()) throw field_error(where, where + " is neither a string nor an array");
    std::string whole;
    std::size_t i = 0;
    // Named: a temporary would be gone inside the loop.
    const dom::array elements = *message.array("content", kPartsMax);
    for (const dom::element chunk : elements)
        whole += chunk_text_of(chunk, fmt::format("{}[{}]", where, i++));
    return whole;
}

void refuse_calls(Fields& message) {
    for (const char* name : {"tool_calls", "function_call", "audio"}) {
        const auto value = message.any(name);
        if (!value) continue;
        dom::array calls;
        const bool empty = value->get(calls) == simdjson::SUCCESS && calls.begin() == calls.end();
        if (!empty) {
            throw unsupported(message.path(name),
                              message.path(name) + " is not available on this server");
        }
    }
}

/// Appends one message; returns whether it says that the answer continues it.
bool read_message(dom::element element, std::size_t index, ChatRequest& request) {
    const std::string where = fmt::format("messages[{}]", index);
    dom::object object;
    if (element.get(object) != simdjson::SUCCESS) {
        throw field_error(where, where + " is not an object");
    }
    Fields message(object, where + ".");
    refuse_calls(message);
    const wire::Role role = role_of(message);
    request.prompt.messages.push_back({role, content_of(message, role)});
    const bool prefix = message.boolean("prefix").value_or(false);
    if (prefix && role != wire::Role::assistant) {
        throw field_error(message.path("prefix"),
                          message.path("prefix") + " is for messages of the assistant");
    }
    message.skip("refusal");
    if (message.text("name", kLabelBytesMax)) request.ignored.push_back(message.path("name"));
    note_ignored(message, request);
    return prefix;
}

void read_messages(Fields& fields, ChatRequest& request, Dialect dialect) {
    const auto messages = fields.array("messages", kMessagesMax);
    if (!messages) throw field_error("messages", "messages is missing");
    std::size_t i = 0;
    bool prefix = false;
    for (const dom::element element : *messages) {
        if (prefix) {
            throw field_error(fmt::format("messages[{}].prefix", i - 1),
                              "prefix is for the last message");
        }
        prefix = read_message(element, i++, request);
    }
    if (request.prompt.messages.empty()) throw field_error("messages", "messages is empty");
    const bool from_assistant = request.prompt.messages.back().role == wire::Role::assistant;
    if (fields.boolean("continue_final_message").value_or(false)) {
        if (!from_assistant) {
            throw field_error("continue_final_message",
                              "continue_final_message: the last message is not the assistant's");
        }
        prefix = true;
    }
    if (from_assistant && !prefix && dialect == Dialect::mistral) {
        throw field_error("messages",
                          "the last message is the assistant's; with prefix true it is continued");
    }
    request.prompt.continue_last = prefix;
    if (!prefix && !fields.boolean("add_generation_prompt").value_or(true)) {
        throw unsupported("add_generation_prompt",
                          "add_generation_prompt: false is not available on this server");
    }
    fields.skip("add_generation_prompt");
}

void read_logprobs(Fields& fields, wire::Sampling& sampling) {
    const bool wanted = fields.boolean("logprobs").value_or(false);
    const auto top = fields.integer("top_logprobs", 0, kTopLogprobsMax);
    if (top && *top > 0 && !wanted) {
        throw field_error("top_logprobs", "top_logprobs needs logprobs to be true");
    }
    if (wanted) sampling.top_logprobs = static_cast<int>(top.value_or(0));
}

void read_prediction(Fields& fields, wire::Sampling& sampling) {
    auto prediction = fields.object("prediction");
    if (!prediction) return;
    prediction->skip("type");
    if (prediction->any("content")) {
        sampling.prediction = content_of(*prediction, wire::Role::assistant);
    }
}

}  // namespace

ChatRequest parse_chat_request(std::string_view body, Dialect dialect) {
    const JsonBody json(body);
    Fields fields(json.object(), "");
    ChatRequest request;
    read_common(fields, request);
    refuse_unsupported(fields);
    refuse_store(fields);
    read_messages(fields, request, dialect);
    read_sampling(fields, request.sampling, 1);
    read_logprobs(fields, request.sampling);
    read_prediction(fields, request.sampling);
    if (fields.boolean("safe_prompt").value_or(false)) {
        request.prompt.messages.insert(request.prompt.messages.begin(),
                                       {wire::Role::system, kSafePrompt});
    }
    note_ignored(fields, request);
    return request;
}

}  // namespace etalon::serve

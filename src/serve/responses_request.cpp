// SPDX-License-Identifier: Apache-2.0
// From items to a conversation.
#include "serve/responses_request.h"

#include <fmt/format.h>

#include "base/error.h"
#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace dom = simdjson::dom;

namespace {

constexpr const char* kItemStart = "msg_";

std::string item_role(Fields& item) {
    const std::string where = item.path("role");
    const auto role = item.text("role", kLabelBytesMax);
    if (!role) throw field_error(where, where + " is missing");
    for (const char* known : {"system", "developer", "user", "assistant"})
        if (*role == known) return known;
    throw field_error(where, fmt::format("{} is {}, accepted are system, developer, user and "
                                         "assistant",
                                         where, printable(*role, 32)));
}

std::string part_of(dom::element element, const std::string& where) {
    dom::object object;
    if (element.get(object) != simdjson::SUCCESS) {
        throw field_error(where, where + " is not an object");
    }
    Fields part(object, where + ".");
    const std::string_view type = part.text("type", kLabelBytesMax).value_or("");
    if (type != "input_text" && type != "output_text" && type != "text") {
        throw unsupported(where, fmt::format("{}: content of type {} is not available on this "
                                             "server",
                                             where, printable(type, 32)));
    }
    const auto text = part.text("text", kBodyBytesMax);
    if (!text) throw field_error(part.path("text"), part.path("text") + " is missing");
    return std::string(*text);
}

InputItem item_of(dom::element element, const std::string& where) {
    dom::object object;
    if (element.get(object) != simdjson::SUCCESS) {
        throw field_error(where, where + " is not an object");
    }
    Fields item(object, where + ".");
    const std::string_view type = item.text("type", kLabelBytesMax).value_or("message");
    if (type != "message") {
        throw unsupported(where, fmt::format("{}: an item of type {} is not available on this "
                                             "server",
                                             where, printable(type, 32)));
    }
    InputItem message{random_id(kItemStart), item_role(item), {}};
    const auto content = item.any("content");
    if (!content) throw field_error(item.path("content"), item.path("content") + " is missing");
    std::string_view text;
    if (content->get(text) == simdjson::SUCCESS) {
        message.parts.emplace_back(text);
        return message;
    }
    const auto parts = item.array("content", kPartsMax);
    std::size_t i = 0;
    for (const dom::element part : *parts)
        message.parts.push_back(part_of(part, fmt::format("{}[{}]", item.path("content"), i++)));
    return message;
}

std::vector<InputItem> read_items(Fields& fields) {
    const auto input = fields.any("input");
    if (!input) throw field_error("input", "input is missing");
    std::string_view text;
    if (input->get(text) == simdjson::SUCCESS) {
        return {{random_id(kItemStart), "user", {std::string(text)}}};
    }
    std::vector<InputItem> items;
    const auto elements = fields.array("input", kMessagesMax);
    for (const dom::element element : *elements)
        items.push_back(item_of(element, fmt::format("input[{}]", items.size())));
    if (items.empty()) throw field_error("input", "input is empty");
    return items;
}

void check_stored_size(const ResponsesRequest& request) {
    std::size_t n_bytes = request.instructions.size();
    for (const wire::ChatMessage& message : request.prompt.messages)
        n_bytes += message.content.size();
    if (n_bytes <= kStoredInputBytesMax) return;
    throw field_error("store", fmt::format("store: the texts have {} bytes, at most {} are stored",
                                           n_bytes, kStoredInputBytesMax));
}

void read_input(Fields& fields, ResponsesRequest& request) {
    const auto instructions = fields.text("instructions", kBodyBytesMax);
    if (instructions) {
        request.instructions = *instructions;
        request.prompt.messages.push_back({wire::Role::system, request.instructions});
        request.n_instructions = 1;
    }
    std::vector<InputItem> items = read_items(fields);
    for (const InputItem& item : items)
        request.prompt.messages.push_back(item.message());
    if (!request.store) return;
    check_stored_size(request);
    request.input = std::move(items);
}

void read_memory(Fields& fields, ResponsesRequest& request) {
    request.store = fields.boolean("store").value_or(false);
    request.previous = fields.text("previous_response_id", kLabelBytesMax).value_or("");
    auto metadata = fields.object("metadata");
    if (!metadata) return;
    for (const auto [name, value] : metadata->raw()) {
        const std::string where = metadata->path(printable(name, kMetadataNameBytesMax));
        if (name.size() > kMetadataNameBytesMax || request.metadata.size() == kMetadataMax) {
            throw field_error("metadata",
                              fmt::format("metadata: at most {} names of at most {} bytes are "
                                          "accepted",
                                          kMetadataMax, kMetadataNameBytesMax));
        }
        request.metadata.emplace_back(name, text_of(value, where, kMetadataBytesMax));
    }
}

void refuse(std::string_view field, std::string_view what) {
    throw unsupported(field, fmt::format("{}: {} is not available on this server", field, what));
}

void refuse_others(Fields& fields) {
    for (const char* name : {"conversation", "prompt"}) {
        if (fields.any(name)) refuse(name, "a thing that another route makes");
    }
    if (fields.boolean("background").value_or(false)) refuse("background", "answering later");
    if (fields.text("truncation", kLabelBytesMax).value_or("disabled") != "disabled") {
        refuse("truncation", "cutting a prompt");
    }
    if (fields.integer("top_logprobs", 0, kTopLogprobsMax).value_or(0) > 0) {
        refuse("top_logprobs", "log-probabilities on this route");
    }
}

/// Settings of texts and of reasoning: only what asks for plain text without it.
void read_settings(Fields& fields, ResponsesRequest& request) {
    if (auto text = fields.object("text")) {
        if (auto format = text->object("format")) {
            if (format->text("type", kLabelBytesMax).value_or("text") != "text") {
                refuse("text.format", "structured output");
            }
        }
        if (text->text("verbosity", kLabelBytesMax).value_or("medium") != "medium") {
            refuse("text.verbosity", "changing the verbosity");
        }
        note_ignored(*text, request);
    }
    if (auto reasoning = fields.object("reasoning")) {
        if (reasoning->text("effort", kLabelBytesMax).value_or("none") != "none") {
            refuse("reasoning.effort", "reasoning");
        }
        reasoning->skip("summary");
        note_ignored(*reasoning, request);
    }
}

}  // namespace

ResponsesRequest parse_responses_request(std::string_view body) {
    const JsonBody json(body);
    Fields fields(json.object(), "");
    ResponsesRequest request;
    read_common(fields, request);
    refuse_unsupported(fields);
    refuse_others(fields);
    read_memory(fields, request);
    read_settings(fields, request);
    read_input(fields, request);
    read_sampling(fields, request.sampling, 1);
    if (request.sampling.n > 1) refuse("n", "more than one answer on this route");
    const auto longest = fields.integer("max_output_tokens", 1, kTokensMax);
    if (longest) request.sampling.max_tokens = static_cast<int>(*longest);
    note_ignored(fields, request);
    return request;
}

}  // namespace etalon::serve

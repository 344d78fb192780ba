// SPDX-License-Identifier: Apache-2.0
// From JSON to prompts that are continued.
#include "serve/completion_request.h"

#include <fmt/format.h>

#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace dom = simdjson::dom;

namespace {

wire::TokenPrompt tokens_of(dom::array array, const std::string& where) {
    wire::TokenPrompt prompt;
    for (const dom::element id : array) {
        prompt.tokens.push_back(static_cast<std::int32_t>(integer_of(id, where, 0, kTopKMax)));
    }
    if (prompt.tokens.empty()) throw field_error(where, where + " is empty");
    return prompt;
}

/// One element of `prompt`: a text or a list of ids.
wire::Prompt prompt_of(dom::element value, const std::string& where) {
    std::string_view text;
    if (value.get(text) == simdjson::SUCCESS) return wire::TextPrompt{std::string(text)};
    dom::array ids;
    if (value.get(ids) == simdjson::SUCCESS) return tokens_of(ids, where);
    throw field_error(where, where + " is neither a string nor an array of token ids");
}

void read_prompts(Fields& fields, CompletionRequest& request) {
    const auto value = fields.any("prompt");
    if (!value) throw field_error("prompt", "prompt is missing");
    dom::array array;
    if (value->get(array) != simdjson::SUCCESS) {
        request.prompts.push_back(prompt_of(*value, "prompt"));
        return;
    }
    if (array.begin() == array.end()) throw field_error("prompt", "prompt is empty");
    if ((*array.begin()).is_number()) {
        request.prompts.emplace_back(tokens_of(array, "prompt"));
        return;
    }
    std::size_t i = 0;
    // Named: a temporary would be gone inside the loop.
    const dom::array elements = *fields.array("prompt", kPromptsMax);
    for (const dom::element one : elements)
        request.prompts.push_back(prompt_of(one, fmt::format("prompt[{}]", i++)));
}

/// With a suffix the one prompt becomes the code before a gap.
void read_suffix(Fields& fields, CompletionRequest& request) {
    const auto suffix = fields.text("suffix", kBodyBytesMax);
    if (!suffix || suffix->empty()) return;
    const auto* text = request.prompts.size() == 1
                           ? std::get_if<wire::TextPrompt>(request.prompts.data())
                           : nullptr;
    if (text == nullptr) {
        throw unsupported("suffix", "suffix: only one prompt of text can have one");
    }
    request.prompts = {wire::FimPrompt{text->text, std::string(*suffix)}};
}

void read_echo(Fields& fields, CompletionRequest& request) {
    request.echo = fields.boolean("echo").value_or(false);
    if (request.sampling.max_tokens == 0) {
        if (!request.echo) throw field_error("max_tokens", "max_tokens is 0 without echo");
        request.only_echo = true;
        request.sampling.max_tokens = 1;
    }
    if (!request.echo) return;
    request.prompt_logprobs = request.sampling.top_logprobs.has_value();
    for (const wire::Prompt& prompt : request.prompts) {
        if (std::holds_alternative<wire::TextPrompt>(prompt)) continue;
        // The text of ids comes with their log-probabilities.
        if (std::holds_alternative<wire::TokenPrompt>(prompt) && request.prompt_logprobs) continue;
        throw unsupported("echo",
                          "echo: only prompts of text can be repeated, and token ids with "
                          "logprobs");
    }
}

/// logprobs is a count here; the chat route's true is understood as 0 of them.
void read_logprobs_count(Fields& fields, wire::Sampling& sampling) {
    const auto value = fields.any("logprobs");
    if (!value) return;
    bool flag = false;
    if (value->get(flag) == simdjson::SUCCESS) {
        if (flag) sampling.top_logprobs = 0;
        return;
    }
    sampling.top_logprobs = static_cast<int>(integer_of(*value, "logprobs", 0, kTopLogprobsMax));
}

}  // namespace

CompletionRequest parse_completion_request(std::string_view body) {
    const JsonBody json(body);
    Fields fields(json.object(), "");
    CompletionRequest request;
    read_common(fields, request);
    refuse_unsupported(fields);
    refuse_store(fields);
    read_prompts(fields, request);
    read_suffix(fields, request);
    read_sampling(fields, request.sampling, 0);
    read_logprobs_count(fields, request.sampling);
    read_echo(fields, request);
    const auto best_of = fields.integer("best_of", 1, kChoicesMax);
    if (best_of && *best_of != request.sampling.n) {
        throw unsupported("best_of", "best_of: only the value of n is available on this server");
    }
    const std::size_t n_answers =
        request.prompts.size() * static_cast<std::size_t>(request.sampling.n);
    if (n_answers > kAnswersMax) {
        throw field_error(
            "n", fmt::format("{} prompts with n {} are {} answers, at most {} are "
                             "accepted",
                             request.prompts.size(), request.sampling.n, n_answers, kAnswersMax));
    }
    note_ignored(fields, request);
    return request;
}

CompletionRequest parse_fim_request(std::string_view body) {
    const JsonBody json(body);
    Fields fields(json.object(), "");
    CompletionRequest request;
    read_common(fields, request);
    refuse_unsupported(fields);
    refuse_store(fields);
    const auto prompt = fields.text("prompt", kBodyBytesMax);
    if (!prompt) throw field_error("prompt", "prompt is missing");
    const auto suffix = fields.text("suffix", kBodyBytesMax);
    request.prompts = {wire::FimPrompt{std::string(*prompt), std::string(suffix.value_or(""))}};
    read_sampling(fields, request.sampling, 1);
    note_ignored(fields, request);
    return request;
}

}  // namespace etalon::serve

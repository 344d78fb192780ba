// SPDX-License-Identifier: Apache-2.0
// The routes about tokens and vectors: /tokenize, /detokenize, /v1/embeddings.
#include <bit>
#include <cstring>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <openssl/evp.h>

#include "base/error.h"
#include "serve/chat_request.h"
#include "serve/fields.h"
#include "serve/handlers.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace dom = simdjson::dom;

namespace {

using nlohmann::ordered_json;

static_assert(std::endian::native == std::endian::little, "base64 vectors are little endian");

class TokenizeAnswer : public Answer {
  public:
    explicit TokenizeAnswer(int context) : context_(context) {}
    void take(std::size_t /*part*/, const wire::ToFront& message) override {
        const auto* done = std::get_if<wire::Tokenized>(&message);
        if (done == nullptr) return;
        text_ = json_text({{"tokens", done->tokens},
                           {"count", done->tokens.size()},
                           {"max_model_len", context_}});
    }

  private:
    int context_;
};

class DetokenizeAnswer : public Answer {
  public:
    void take(std::size_t /*part*/, const wire::ToFront& message) override {
        const auto* done = std::get_if<wire::Tokenized>(&message);
        if (done != nullptr) text_ = json_text({{"prompt", done->text}});
    }
};

std::string base64(const std::vector<float>& vector) {
    const std::size_t bytes = vector.size() * sizeof(float);
    std::string out(4 * ((bytes + 2) / 3) + 1, '\0');  // the library ends it with a zero
    const int size = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                     reinterpret_cast<const unsigned char*>(vector.data()),
                                     static_cast<int>(bytes));
    out.resize(static_cast<std::size_t>(size));
    return out;
}

class EmbeddingsAnswer : public Answer {
  public:
    EmbeddingsAnswer(std::string model, bool as_base64)
        : model_(std::move(model)), as_base64_(as_base64) {}

    void take(std::size_t /*part*/, const wire::ToFront& message) override {
        const auto* done = std::get_if<wire::Embedded>(&message);
        if (done == nullptr) return;
        ordered_json data = ordered_json::array();
        for (std::size_t i = 0; i < done->vectors.size(); ++i) {
            ordered_json entry{{"object", "embedding"}, {"index", i}};
            if (as_base64_) {
                entry["embedding"] = base64(done->vectors[i]);
            } else {
                entry["embedding"] = done->vectors[i];
            }
            data.push_back(std::move(entry));
        }
        usage_.prompt_tokens = done->prompt_tokens;
        text_ = json_text({{"id", random_id("embd-")},
                           {"object", "list"},
                           {"model", model_},
                           {"data", data},
                           {"usage",
                            {{"prompt_tokens", done->prompt_tokens},
                             {"completion_tokens", 0},
                             {"total_tokens", done->prompt_tokens}}}});
    }

  private:
    std::string model_;
    bool as_base64_;
};

std::size_t model_of(const Site& site, Fields& fields) {
    const auto name = fields.text("model", kModelBytesMax);
    // These routes of other servers know no model: the first one is meant.
    return find_model(site, name ? *name : std::string_view(site.models.front().id));
}

wire::Prompt input_of(dom::element value, const std::string& where) {
    std::string_view text;
    if (value.get(text) == simdjson::SUCCESS) {
        if (text.empty()) throw field_error(where, where + " is empty");
        return wire::TextPrompt{std::string(text)};
    }
    dom::array ids;
    if (value.get(ids) != simdjson::SUCCESS) {
        throw field_error(where, where + " is neither a string nor an array of token ids");
    }
    wire::TokenPrompt prompt;
    for (const dom::element id : ids)
        prompt.tokens.push_back(static_cast<std::int32_t>(integer_of(id, where, 0, kTopKMax)));
    if (prompt.tokens.empty()) throw field_error(where, where + " is empty");
    return prompt;
}

std::vector<wire::Prompt> inputs_of(Fields& fields) {
    // Early versions of one SDK call it inputs.
    const char* name = fields.any("input") ? "input" : "inputs";
    const auto value = fields.any(name);
    if (!value) throw field_error("input", "input is missing");
    dom::array array;
    if (value->get(array) != simdjson::SUCCESS) return {input_of(*value, name)};
    if (array.begin() == array.end()) throw field_error(name, fmt::format("{} is empty", name));
    if ((*array.begin()).is_number()) return {input_of(*value, name)};
    std::vector<wire::Prompt> inputs;
    // Named: a temporary would be gone inside the loop.
    const dom::array elements = *fields.array(name, kInputsMax);
    for (const dom::element one : elements)
        inputs.push_back(input_of(one, fmt::format("{}[{}]", name, inputs.size())));
    return inputs;
}

bool wants_base64(Fields& fields) {
    const std::string_view format = fields.text("encoding_format", 32).value_or("float");
    if (format != "float" && format != "base64") {
        throw unsupported("encoding_format", "encoding_format: accepted are float and base64");
    }
    if (fields.text("output_dtype", 32).value_or("float") != "float") {
        throw unsupported("output_dtype", "output_dtype: accepted is float");
    }
    return format == "base64";
}

}  // namespace

Outcome handle_tokenize(const Site& site, const Call& call) {
    const JsonBody json(call.request.body);
    Fields fields(json.object(), "");
    Job job;
    wire::Tokenize ask;
    std::size_t model = 0;
    if (fields.any("messages")) {
        ChatRequest chat = parse_chat_request(call.request.body, call.target.dialect);
        model = find_model(site, chat.model);
        ask.prompt = std::move(chat.prompt);
        job.prompt_field = "messages";
        add_ignored(chat.ignored, job.headers);
    } else {
        model = model_of(site, fields);
        const auto text = fields.text("prompt", kBodyBytesMax);
        if (!text) throw field_error("prompt", "prompt is missing, and so is messages");
        ask.prompt = wire::TextPrompt{std::string(*text)};
        add_ignored(fields.unread(), job.headers);
    }
    job.asks.push_back({model, std::move(ask)});
    job.answer = std::make_unique<TokenizeAnswer>(site.models[model].hello->context_tokens);
    return job;
}

Outcome handle_detokenize(const Site& site, const Call& call) {
    const JsonBody json(call.request.body);
    Fields fields(json.object(), "");
    const std::size_t model = model_of(site, fields);
    const auto tokens = fields.array("tokens", static_cast<std::size_t>(kTokensMax));
    if (!tokens) throw field_error("tokens", "tokens is missing");
    wire::Detokenize ask;
    const int vocab_size = site.models[model].hello->vocab_size;
    for (const dom::element id : *tokens)
        ask.tokens.push_back(
            static_cast<std::int32_t>(integer_of(id, "tokens", 0, vocab_size - 1)));
    Job job;
    add_ignored(fields.unread(), job.headers);
    job.asks.push_back({model, std::move(ask)});
    job.answer = std::make_unique<DetokenizeAnswer>();
    return job;
}

Outcome handle_embeddings(const Site& site, const Call& call) {
    const JsonBody json(call.request.body);
    Fields fields(json.object(), "");
    const auto name = fields.text("model", kModelBytesMax);
    if (!name) throw field_error("model", "model is missing; GET /v1/models lists what is served");
    const std::size_t model = find_model(site, *name);
    const int dim = site.models[model].hello->dim;
    for (const char* field : {"dimensions", "output_dimension"}) {
        const auto wanted = fields.integer(field, 1, kTopKMax);
        if (wanted && *wanted != dim) {
            throw unsupported(field,
                              fmt::format("{}: the vectors of this model have {}", field, dim));
        }
    }
    wire::Embed ask;
    ask.tenant = call.key.tenant;
    ask.inputs = inputs_of(fields);
    ask.normalize = fields.boolean("normalize").value_or(true);
    const bool as_base64 = wants_base64(fields);
    fields.text("user", kLabelBytesMax);
    Job job;
    add_ignored(fields.unread(), job.headers);
    job.headers.emplace_back("x-etalon-ai", "generated");
    job.prompt_field = "input";
    job.asks.push_back({model, std::move(ask)});
    job.answer = std::make_unique<EmbeddingsAnswer>(site.models[model].id, as_base64);
    return job;
}

}  // namespace etalon::serve

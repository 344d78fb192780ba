// SPDX-License-Identifier: Apache-2.0
// Fields that every route which answers has.
#include "serve/sampling_fields.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <limits>
#include <openssl/rand.h>
#include <set>

#include "base/error.h"
#include "serve/api_error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace dom = simdjson::dom;

namespace {

/// The smallest share that the sampler takes: 0 asks for the likeliest token alone, as this does.
constexpr double kShareMin = 0x1p-126;

float to_float(double value) {
    return static_cast<float>(value);
}

void read_logit_bias(Fields& fields, wire::Sampling& sampling) {
    auto biases = fields.object("logit_bias");
    if (!biases) return;
    for (const auto [name, value] : biases->raw()) {
        const std::string where = biases->path(printable(name, 32));
        std::int32_t id = -1;
        const char* end = name.data() + name.size();
        const auto [parsed, error] = std::from_chars(name.data(), end, id);
        if (error != std::errc() || parsed != end || id < 0) {
            throw field_error("logit_bias", fmt::format("{} is no token id", where));
        }
        sampling.logit_bias.emplace_back(id, to_float(number_of(value, where, -100.0, 100.0)));
    }
    // Two names can stand for one id ("7" and "07"); fields of one name are refused already.
    std::sort(sampling.logit_bias.begin(), sampling.logit_bias.end());
    const auto same = [](const auto& a, const auto& b) { return a.first == b.first; };
    const auto twice =
        std::adjacent_find(sampling.logit_bias.begin(), sampling.logit_bias.end(), same);
    if (twice != sampling.logit_bias.end()) {
        throw field_error("logit_bias",
                          fmt::format("logit_bias names token {} twice", twice->first));
    }
}

void add_stop(dom::element value, const std::string& where, wire::Sampling& sampling) {
    const std::string_view stop = text_of(value, where, kStopBytesMax);
    if (stop.empty()) throw field_error("stop", fmt::format("{} is empty", where));
    sampling.stop_strings.emplace_back(stop);
}

void read_stops(Fields& fields, wire::Sampling& sampling) {
    if (const auto stop = fields.any("stop")) {
        if (stop->is_array()) {
            std::size_t i = 0;
            // Named: a temporary would be gone inside the loop.
            const dom::array elements = *fields.array("stop", kStopStringsMax);
            for (const dom::element one : elements)
                add_stop(one, fmt::format("stop[{}]", i++), sampling);
        } else {
            add_stop(*stop, "stop", sampling);
        }
    }
    if (const auto tokens = fields.array("stop_token_ids", kStopTokensMax)) {
        for (const dom::element id : *tokens) {
            sampling.stop_tokens.push_back(
                static_cast<std::int32_t>(integer_of(id, "stop_token_ids", 0, kTopKMax)));
        }
    }
}

/// Any 64 bits: negative seeds of one dialect are the unsigned ones with the same bits.
std::optional<std::uint64_t> read_seed(Fields& fields, std::string_view name) {
    const auto value = fields.any(name);
    if (!value) return std::nullopt;
    std::uint64_t bits = 0;
    if (value->is_uint64() && value->get(bits) == simdjson::SUCCESS) return bits;
    return static_cast<std::uint64_t>(integer_of(*value, std::string(name),
                                                 std::numeric_limits<std::int64_t>::min(),
                                                 std::numeric_limits<std::int64_t>::max()));
}

void read_seeds(Fields& fields, wire::Sampling& sampling) {
    const auto seed = read_seed(fields, "seed");
    const auto random_seed = read_seed(fields, "random_seed");
    if (seed && random_seed && *seed != *random_seed) {
        throw field_error("random_seed", "seed and random_seed differ");
    }
    sampling.seed = seed ? seed : random_seed;
    if (!sampling.seed) sampling.seed = draw_seed();
}

void read_lengths(Fields& fields, wire::Sampling& sampling, std::int64_t max_tokens_min) {
    const auto old_name = fields.integer("max_tokens", max_tokens_min, kTokensMax);
    const auto new_name = fields.integer("max_completion_tokens", max_tokens_min, kTokensMax);
    if (old_name || new_name) {
        sampling.max_tokens = static_cast<int>(
            std::min(old_name.value_or(kTokensMax), new_name.value_or(kTokensMax)));
    }
    sampling.min_tokens = static_cast<int>(fields.integer("min_tokens", 0, kTokensMax).value_or(0));
    if (sampling.max_tokens && sampling.min_tokens > *sampling.max_tokens) {
        throw field_error("min_tokens", fmt::format("min_tokens is {}, max_tokens is {}",
                                                    sampling.min_tokens, *sampling.max_tokens));
    }
    sampling.ignore_eos = fields.boolean("ignore_eos").value_or(false);
}

/// True where a value asks for nothing: an empty array, object or string, false.
bool asks_nothing(dom::element value) {
    dom::array array;
    dom::object object;
    std::string_view text;
    bool flag = false;
    if (value.get(array) == simdjson::SUCCESS) return array.begin() == array.end();
    if (value.get(object) == simdjson::SUCCESS) return object.begin() == object.end();
    if (value.get(text) == simdjson::SUCCESS) return text.empty();
    return value.get(flag) == simdjson::SUCCESS && !flag;
}

[[noreturn]] void refuse(Fields& fields, std::string_view name, std::string_view what) {
    throw unsupported(fields.path(name), fmt::format("{}: {} is not available on this server",
                                                     fields.path(name), what));
}

void refuse_unless_empty(Fields& fields, const char* name, const char* what) {
    const auto value = fields.any(name);
    if (value && !asks_nothing(*value)) refuse(fields, name, what);
}

/// A field whose text says something that is wanted anyway, or is refused.
void accept_only(Fields& fields, std::string_view name, std::initializer_list<const char*> texts,
                 std::string_view what) {
    const auto value = fields.any(name);
    if (!value) return;
    std::string_view text;
    const bool is_text = value->get(text) == simdjson::SUCCESS;
    if (!is_text || std::find(texts.begin(), texts.end(), text) == texts.end()) {
        refuse(fields, name, what);
    }
}

}  // namespace

std::uint64_t draw_seed() {
    std::uint64_t seed = 0;
    ETALON_ASSERT(RAND_bytes(reinterpret_cast<unsigned char*>(&seed), sizeof seed) == 1);
    return seed >> 11;
}

void read_common(Fields& fields, AnswerRequest& request) {
    const auto model = fields.text("model", kModelBytesMax);
    if (!model || model->empty()) {
        throw field_error("model", "model is missing; GET /v1/models lists what is served");
    }
    request.model = *model;
    request.stream = fields.boolean("stream").value_or(false);
    if (auto options = fields.object("stream_options")) {
        request.include_usage = options->boolean("include_usage").value_or(false);
        options->boolean("include_obfuscation");
        options->boolean("stream_tool_calls");
        note_ignored(*options, request);
    }
    request.cache_key =
        std::string(fields.text("prompt_cache_key", kCacheKeyBytesMax).value_or(""));
    for (const char* label : {"user", "safety_identifier", "service_tier"}) {
        if (fields.text(label, kLabelBytesMax)) request.ignored.emplace_back(label);
    }
}

void read_sampling(Fields& fields, wire::Sampling& sampling, std::int64_t max_tokens_min) {
    sampling.temperature = to_float(fields.number("temperature", 0.0, 2.0).value_or(1.0));
    sampling.top_p = to_float(std::max(fields.number("top_p", 0.0, 1.0).value_or(1.0), kShareMin));
    // -1 asks for all tokens in one of the dialects, 0 in the others.
    sampling.top_k = static_cast<int>(
        std::max<std::int64_t>(fields.integer("top_k", -1, kTopKMax).value_or(0), 0));
    sampling.min_p = to_float(fields.number("min_p", 0.0, 1.0).value_or(0.0));
    sampling.repetition_penalty =
        to_float(fields.number("repetition_penalty", 0.01, 100.0).value_or(1.0));
    sampling.presence_penalty =
        to_float(fields.number("presence_penalty", -2.0, 2.0).value_or(0.0));
    sampling.frequency_penalty =
        to_float(fields.number("frequency_penalty", -2.0, 2.0).value_or(0.0));
    sampling.n = static_cast<int>(fields.integer("n", 1, kChoicesMax).value_or(1));
    read_logit_bias(fields, sampling);
    read_stops(fields, sampling);
    read_seeds(fields, sampling);
    read_lengths(fields, sampling, max_tokens_min);
}

void refuse_unsupported(Fields& fields) {
    static constexpr std::pair<const char*, const char*> kRefused[] = {
        {"tools", "calling tools"},
        {"functions", "calling functions"},
        {"function_call", "calling functions"},
        {"audio", "audio"},
        {"guardrails", "moderation"},
        {"moderation", "moderation"},
        {"web_search_options", "searching the web"},
        {"prompt_mode", "a prompt mode"},
        {"chat_template_kwargs", "changing the chat template"},
        {"truncate_prompt_tokens", "cutting a prompt"},
        {"guided_json", "structured output"},
        {"guided_regex", "structured output"},
        {"guided_grammar", "structured output"},
        {"guided_choice", "structured output"},
        {"structured_outputs", "structured output"},
        {"grammar", "structured output"},
        {"json_schema", "structured output"},
        {"use_beam_search", "beam search"},
        {"bad_words", "forbidding words"},
    };
    for (const auto& [name, what] : kRefused)
        refuse_unless_empty(fields, name, what);
    accept_only(fields, "reasoning_effort", {"none"}, "reasoning");
    accept_only(fields, "verbosity", {"medium"}, "changing the verbosity");
    if (auto format = fields.object("response_format")) {
        accept_only(*format, "type", {"text"}, "structured output");
    }
    if (const auto choice = fields.any("tool_choice")) {
        std::string_view text;
        const bool is_text = choice->get(text) == simdjson::SUCCESS;
        if (!is_text || (text != "none" && text != "auto")) {
            refuse(fields, "tool_choice", "calling tools");
        }
    }
    fields.boolean("parallel_tool_calls");
    if (const auto modalities = fields.array("modalities", kPartsMax)) {
        for (const dom::element one : *modalities) {
            std::string_view text;
            if (one.get(text) != simdjson::SUCCESS || text != "text") {
                refuse(fields, "modalities", "anything but text");
            }
        }
    }
}

void refuse_store(Fields& fields) {
    refuse_unless_empty(fields, "store", "storing answers, other than those of /v1/responses,");
}

void note_ignored(const Fields& fields, AnswerRequest& request) {
    for (const std::string& name : fields.unread())
        request.ignored.push_back(fields.path(name));
}

}  // namespace etalon::serve

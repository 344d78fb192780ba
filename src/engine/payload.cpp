// SPDX-License-Identifier: Apache-2.0
// Between requests and payloads; what a payload may hold.
#include "engine/payload.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <span>

#include "base/error.h"
#include "base/utf8.h"
#include "engine/limits.h"
#include "exact/digest.h"

namespace etalon::engine {

namespace {

[[noreturn]] void refuse(const std::string& why) {
    throw Error(ExitCode::invalid, "payload: " + why);
}

void check_range(const char* field, std::int64_t value, std::int64_t low, std::int64_t high) {
    if (value >= low && value <= high) return;
    refuse(fmt::format("{} is {}, accepted are {} to {}", field, value, low, high));
}

void check_size(const char* field, std::size_t size, std::size_t size_max) {
    if (size <= size_max) return;
    refuse(fmt::format("{} has {} elements, at most {} are accepted", field, size, size_max));
}

void check_text(const char* field, const std::string& text, std::size_t bytes_max) {
    if (text.size() > bytes_max) {
        refuse(
            fmt::format("{} has {} bytes, at most {} are accepted", field, text.size(), bytes_max));
    }
    if (!is_utf8(text)) refuse(fmt::format("{} is not UTF-8", field));
}

void check_tokens(const char* field, std::span<const std::int32_t> tokens, std::size_t size_max) {
    check_size(field, tokens.size(), size_max);
    for (const std::int32_t id : tokens)
        check_range(field, id, 0, INT32_MAX);
}

/// Their ranges are for check_request; a value that is not finite has no one form.
void check_floats(const exact::SamplingParameters& p) {
    const bool finite = std::isfinite(p.temperature) && std::isfinite(p.top_p) &&
                        std::isfinite(p.min_p) && std::isfinite(p.repetition_penalty) &&
                        std::isfinite(p.presence_penalty) && std::isfinite(p.frequency_penalty) &&
                        std::all_of(p.logit_bias.begin(), p.logit_bias.end(),
                                    [](const auto& bias) { return std::isfinite(bias.second); });
    if (!finite) refuse("a sampling parameter is not finite");
}

void check_biases(const exact::SamplingParameters& p) {
    check_size("logit_bias", p.logit_bias.size(), kLogitBiasMax);
    std::vector<std::int32_t> ids;
    for (const auto& [id, bias] : p.logit_bias)
        ids.push_back(id);
    check_tokens("logit_bias", ids, kLogitBiasMax);
    std::sort(ids.begin(), ids.end());
    if (std::adjacent_find(ids.begin(), ids.end()) != ids.end()) {
        refuse("logit_bias names a token twice");
    }
}

}  // namespace

Payload payload_of(const Request& request, std::uint64_t seed, int max_tokens, int choice) {
    Payload payload;
    payload.prompt = request.prompt;
    payload.sampling = request.sampling;
    payload.sampling.seed = seed;
    payload.n = request.n;
    payload.choice = choice;
    payload.max_tokens = max_tokens;
    payload.min_tokens = request.min_tokens;
    payload.ignore_eos = request.ignore_eos;
    payload.stop_tokens = request.stop_tokens;
    payload.stop_strings = request.stop_strings;
    payload.top_logprobs = request.top_logprobs;
    return payload;
}

Request request_of(const Payload& payload) {
    Request request;
    request.tenant = "replay";
    request.prompt = payload.prompt;
    request.sampling = payload.sampling;
    request.seed = payload.sampling.seed;
    request.n = payload.n;
    request.max_tokens = payload.max_tokens;
    request.min_tokens = payload.min_tokens;
    request.ignore_eos = payload.ignore_eos;
    request.stop_tokens = payload.stop_tokens;
    request.stop_strings = payload.stop_strings;
    request.top_logprobs = payload.top_logprobs;
    return request;
}

std::string_view finish_name(FinishReason reason) noexcept {
    switch (reason) {
        case FinishReason::stop:
            return "stop";
        case FinishReason::length:
            return "length";
        case FinishReason::cancelled:
            return "cancelled";
        case FinishReason::error:
            break;
    }
    return "error";
}

Sha256Digest answer_digest(const Payload& payload) {
    ETALON_ASSERT(payload.answer.size() == payload.checksums.size());
    exact::RunDigest digest;
    for (std::size_t i = 0; i < payload.answer.size(); ++i)
        digest.add(static_cast<std::uint32_t>(payload.answer[i]), payload.checksums[i]);  // DIG-3
    return digest.finish();
}

void check_payload(const Payload& payload) {
    check_text("model name", payload.model_name, kModelNameBytesMax);
    check_range("arithmetic", payload.arithmetic, 1, INT32_MAX);
    check_tokens("prompt", payload.prompt, kPayloadTokensMax);
    if (payload.prompt.empty()) refuse("the prompt is empty");
    check_floats(payload.sampling);
    check_biases(payload.sampling);
    check_range("top_k", payload.sampling.top_k, 0, INT32_MAX);
    check_range("n", payload.n, 1, kChoicesMax);
    check_range("choice", payload.choice, 0, payload.n - 1);
    check_range("max_tokens", payload.max_tokens, 1, INT32_MAX);
    check_range("min_tokens", payload.min_tokens, 0, payload.max_tokens);
    check_tokens("stop_tokens", payload.stop_tokens, kStopTokensMax);
    check_size("stop_strings", payload.stop_strings.size(), kStopStringsMax);
    for (const std::string& stop : payload.stop_strings)
        check_text("a stop string", stop, kStopBytesMax);
    check_range("top_logprobs", payload.top_logprobs.value_or(0), 0, kTopLogprobsMax);
    if (payload.mask) {
        check_text("the kind of the mask", payload.mask->kind, kMaskKindBytesMax);
        check_text("the text of the mask", payload.mask->text, kMaskTextBytesMax);
    }
    check_tokens("answer", payload.answer, kPayloadTokensMax);
    const std::size_t n_answer = payload.answer.size();
    if (n_answer != payload.checksums.size()) {
        refuse(fmt::format("the answer has {} tokens and {} checksums", n_answer,
                           payload.checksums.size()));
    }
    check_range("tokens of the answer", static_cast<std::int64_t>(n_answer), 0, payload.max_tokens);
    check_range("tokens of prompt and answer",
                static_cast<std::int64_t>(payload.prompt.size() + n_answer), 1,
                static_cast<std::int64_t>(kPayloadTokensMax));
}

}  // namespace etalon::engine

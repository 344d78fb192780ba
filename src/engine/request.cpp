// SPDX-License-Identifier: Apache-2.0
// The checks that make every accepted request one that fits alone.
#include "engine/request.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <set>

#include "engine/limits.h"

namespace etalon::engine {

namespace {

using Verdict = std::optional<Refusal>;

Refusal usage(std::string field, std::string message, std::string hint = "") {
    return {std::move(field), Error(ExitCode::usage, std::move(message), std::move(hint))};
}

Verdict check_size(const char* field, std::size_t size, std::size_t size_max, const char* unit) {
    if (size <= size_max) return std::nullopt;
    return usage(field,
                 fmt::format("{} has {} {}, at most {} are accepted", field, size, unit, size_max));
}

template <typename T>
Verdict check_range(const char* field, T value, T low, T high) {
    if (value >= low && value <= high) return std::nullopt;  // false for a NaN
    return usage(field, fmt::format("{} is {}, accepted are {} to {}", field, value, low, high));
}

Verdict check_tokens(const char* field, std::span<const std::int32_t> tokens, int vocab_size) {
    const auto bad = std::find_if(tokens.begin(), tokens.end(),
                                  [&](std::int32_t id) { return id < 0 || id >= vocab_size; });
    if (bad == tokens.end()) return std::nullopt;
    return usage(field, fmt::format("{}: token {} is outside the vocabulary of {}", field, *bad,
                                    vocab_size));
}

Verdict check_sampling(const exact::SamplingParameters& p, int vocab_size) {
    constexpr float kSmallest = 0x1p-126F;
    if (auto bad = check_range("temperature", p.temperature, 0.0F, 100.0F)) return bad;
    if (auto bad = check_range("top_k", p.top_k, 0, INT32_MAX)) return bad;
    if (auto bad = check_range("top_p", p.top_p, kSmallest, 1.0F)) return bad;
    if (auto bad = check_range("min_p", p.min_p, 0.0F, 1.0F)) return bad;
    if (auto bad = check_range("repetition_penalty", p.repetition_penalty, kSmallest, 100.0F)) {
        return bad;
    }
    if (auto bad = check_range("presence_penalty", p.presence_penalty, -100.0F, 100.0F)) return bad;
    if (auto bad = check_range("frequency_penalty", p.frequency_penalty, -100.0F, 100.0F)) {
        return bad;
    }
    if (auto bad = check_size("logit_bias", p.logit_bias.size(), kLogitBiasMax, "tokens")) {
        return bad;
    }
    std::set<std::int32_t> seen;
    for (const auto& [id, bias] : p.logit_bias) {
        if (auto bad = check_tokens("logit_bias", {&id, 1}, vocab_size)) return bad;
        if (!seen.insert(id).second) {
            return usage("logit_bias", fmt::format("logit_bias names token {} twice", id));
        }
        if (!std::isfinite(bias)) {
            return usage("logit_bias", fmt::format("logit_bias of token {} is not finite", id));
        }
    }
    return std::nullopt;
}

Verdict check_stops(const Request& request, int vocab_size) {
    const auto& tokens = request.stop_tokens;
    if (auto bad = check_size("stop_tokens", tokens.size(), kStopTokensMax, "tokens")) return bad;
    if (auto bad = check_tokens("stop_tokens", tokens, vocab_size)) return bad;
    const std::size_t n = request.stop_strings.size();
    if (auto bad = check_size("stop", n, kStopStringsMax, "strings")) return bad;
    for (const std::string& stop : request.stop_strings) {
        if (stop.empty()) return usage("stop", "a stop string is empty");
        if (auto bad = check_size("stop", stop.size(), kStopBytesMax, "bytes")) return bad;
        // What is held back then begins with a character, so shown text never ends inside one.
        if ((static_cast<unsigned char>(stop.front()) & 0xC0) == 0x80) {
            return usage("stop", "a stop string begins inside a UTF-8 character");
        }
    }
    return std::nullopt;
}

/// Positions that are computed: the last token of an answer never is.
std::int64_t positions(std::int64_t n_prompt, std::int64_t n_answer) {
    return n_prompt + n_answer - 1;
}

/// A vector needs no room for an answer.
Verdict check_embed(const Request& request, const Room& room) {
    if (request.n != 1) return usage("n", "a vector has one choice");
    const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
    if (n_prompt > std::min(room.context_tokens, room.cache_tokens)) {
        return usage("prompt",
                     fmt::format("the text has {} tokens, the context holds {}, the cache {}",
                                 n_prompt, room.context_tokens, room.cache_tokens),
                     "shorten the text: it is never cut");
    }
    return std::nullopt;
}

Verdict check_fit(const Request& request, const Room& room) {
    if (request.embed) return check_embed(request, room);
    const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
    if (n_prompt >= room.context_tokens) {
        return usage("prompt",
                     fmt::format("the prompt has {} tokens, the context holds {} with the answer",
                                 n_prompt, room.context_tokens),
                     "shorten the prompt: it is never cut");
    }
    const std::int64_t n_answer = request.max_tokens.value_or(1);
    if (n_prompt + n_answer > room.context_tokens) {
        return usage("max_tokens",
                     fmt::format("a prompt of {} tokens and an answer of {} are {}, the context "
                                 "holds {}",
                                 n_prompt, n_answer, n_prompt + n_answer, room.context_tokens),
                     "lower max_tokens or shorten the prompt");
    }
    const std::int64_t needed = positions(n_prompt, n_answer);
    if (needed > room.cache_tokens) {
        const auto bytes = [&](std::int64_t tokens) {
            return static_cast<std::uint64_t>(tokens) * room.kv_token_bytes;
        };
        return usage(n_prompt > room.cache_tokens ? "prompt" : "max_tokens",
                     fmt::format("a prompt of {} tokens and an answer of {} need {} bytes of KV "
                                 "cache, {} exist ({} tokens)",
                                 n_prompt, n_answer, bytes(needed), bytes(room.cache_tokens),
                                 room.cache_tokens),
                     "shorten the request, or give the server more memory for its KV cache");
    }
    return std::nullopt;
}

Verdict check_prompt_logprobs(const Request& request) {
    if (!request.prompt_logprobs) return std::nullopt;
    if (!request.top_logprobs) {
        return usage("prompt_logprobs", "prompt_logprobs needs top_logprobs");
    }
    const std::int64_t n_told =
        static_cast<std::int64_t>(request.prompt.size()) * (*request.top_logprobs + 1) * request.n;
    if (n_told <= kPromptLogprobsMax) return std::nullopt;
    return usage(
        "prompt_logprobs",
        fmt::format("{} log-probabilities of the prompt are over {}", n_told, kPromptLogprobsMax),
        "ask for fewer alternatives or choices");
}

}  // namespace

std::optional<Refusal> check_request(const Request& request, const Room& room) {
    if (request.tenant.empty()) return usage("tenant", "the tenant is empty");
    if (auto bad = check_size("tenant", request.tenant.size(), kTenantBytesMax, "bytes")) {
        return bad;
    }
    const std::size_t key_bytes = request.cache_key.size();
    if (auto bad = check_size("cache_key", key_bytes, kCacheKeyBytesMax, "bytes")) return bad;
    if (auto bad = check_range("weight", request.weight, 1, kWeightMax)) return bad;
    if (auto bad = check_range("n", request.n, 1, kChoicesMax)) return bad;
    if (request.prompt.empty()) return usage("prompt", "the prompt is empty");
    if (auto bad = check_tokens("prompt", request.prompt, room.vocab_size)) return bad;
    const auto context = static_cast<std::size_t>(room.context_tokens);
    const std::size_t n_predicted = request.prediction.size();
    if (auto bad = check_size("prediction", n_predicted, context, "tokens")) return bad;
    if (auto bad = check_tokens("prediction", request.prediction, room.vocab_size)) return bad;
    if (auto bad = check_range("max_tokens", request.max_tokens.value_or(1), 1, INT32_MAX)) {
        return bad;
    }
    if (auto bad = check_sampling(request.sampling, room.vocab_size)) return bad;
    if (auto bad = check_stops(request, room.vocab_size)) return bad;
    if (auto bad =
            check_range("top_logprobs", request.top_logprobs.value_or(0), 0, kTopLogprobsMax)) {
        return bad;
    }
    if (auto bad = check_prompt_logprobs(request)) return bad;
    if (auto bad = check_fit(request, room)) return bad;
    if (held_tokens(request) > kHeldTokensMax) {
        return usage("n",
                     fmt::format("{} choices of a prompt of {} tokens are over {} tokens",
                                 request.n, request.prompt.size(), kHeldTokensMax),
                     "ask for fewer choices");
    }
    return check_range("min_tokens", request.min_tokens, 0, answer_tokens_max(request, room));
}

std::int64_t held_tokens(const Request& request) noexcept {
    const auto n_prompt = static_cast<std::int64_t>(request.prompt.size());
    return n_prompt * (request.n + 1) + static_cast<std::int64_t>(request.prediction.size());
}

int answer_tokens_max(const Request& request, const Room& room) {
    if (request.embed) return 0;
    const auto n_prompt = static_cast<int>(request.prompt.size());
    // One position less than tokens is computed, so the cache holds one token more than it has
    // slots.
    const int room_left = std::min(room.context_tokens, room.cache_tokens + 1) - n_prompt;
    ETALON_ASSERT(room_left >= 1);
    return std::min(request.max_tokens.value_or(room_left), room_left);
}

}  // namespace etalon::engine

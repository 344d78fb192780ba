// SPDX-License-Identifier: Apache-2.0
// The draw with the request's end tokens and mask.
#include "engine/sampler.h"

#include <algorithm>

#include "base/error.h"
#include "engine/limits.h"
#include "exact/logprobs.h"

namespace etalon::engine {

static_assert(kTopLogprobsMax <= backend::kTopLogitsMax);

Sampler::Sampler(const text::Tokenizer& tokenizer, int vocab_size, const backend::Backend& device)
    : fast_(device),
      vocab_size_(static_cast<std::size_t>(vocab_size)),
      allowed_(std::make_unique<bool[]>(static_cast<std::size_t>(vocab_size))) {
    ETALON_ASSERT(vocab_size >= 1);
    for (std::int32_t id = 0; id < std::min(vocab_size, tokenizer.vocab_size()); ++id) {
        if (tokenizer.ends_generation(id)) model_ends_.push_back(id);
    }
}

bool Sampler::ends_answer(const Request& request, std::int32_t token) const {
    const auto among = [&](const std::vector<std::int32_t>& ids) {
        return std::find(ids.begin(), ids.end(), token) != ids.end();
    };
    return among(request.stop_tokens) || (!request.ignore_eos && among(model_ends_));
}

std::span<const bool> Sampler::allowed(const Request& request, std::span<const std::int32_t> answer,
                                       std::size_t n_unknown) {
    ETALON_ASSERT(n_unknown == 0 || !request.mask);
    const bool too_early = answer.size() + n_unknown < static_cast<std::size_t>(request.min_tokens);
    if (!too_early && !request.mask) return {};
    const std::span<bool> flags(allowed_.get(), vocab_size_);
    std::fill(flags.begin(), flags.end(), true);
    if (request.mask) request.mask->restrict(answer, flags);
    if (!too_early) return flags;
    for (const std::int32_t id : request.stop_tokens)
        flags[static_cast<std::size_t>(id)] = false;
    for (const std::int32_t id : model_ends_) {
        if (!request.ignore_eos) flags[static_cast<std::size_t>(id)] = false;
    }
    return flags;
}

std::optional<std::int32_t> Sampler::next(const Request& request, int choice,
                                          std::span<const std::int32_t> tokens,
                                          std::size_t n_prompt, std::span<float> logits) {
    ETALON_ASSERT(n_prompt <= tokens.size());
    ETALON_ASSERT(logits.size() == vocab_size_);
    const auto prompt = tokens.first(n_prompt);
    const auto answer = tokens.subspan(n_prompt);
    return fast_.sample(request.sampling, prompt, answer, allowed(request, answer, 0),
                        tokens.size(), static_cast<std::uint32_t>(choice), logits);
}

backend::Draw Sampler::draw_of(const Request& request, int choice,
                               std::span<const std::int32_t> prompt,
                               std::span<const std::int32_t> answer,
                               std::vector<std::uint32_t>& words, std::size_t n_unknown) {
    constexpr std::size_t kBits = 32;
    const std::span<const bool> flags = allowed(request, answer, n_unknown);
    words.assign((flags.size() + kBits - 1) / kBits, 0);
    for (std::size_t id = 0; id < flags.size(); ++id)
        words[id / kBits] |= (flags[id] ? 1U : 0U) << (id % kBits);
    backend::Draw draw;
    draw.parameters = &request.sampling;
    if (n_unknown == 0) {  // else `answer` grows, and may move, before the draw is over
        draw.prompt = prompt;
        draw.answer = answer;
    }
    draw.allowed = words;
    draw.position = prompt.size() + answer.size() + n_unknown;
    draw.choice = static_cast<std::uint32_t>(choice);
    return draw;
}

TokenLogprobs Sampler::logprobs(std::span<const float> logits, std::int32_t token, int n_top) {
    const exact::Logprobs all(logits);
    return {all.of(token), all.top(n_top)};
}

TokenLogprobs Sampler::logprobs(const backend::RowLogprobs& row) {
    TokenLogprobs told{row.sum.of(row.logit), {}};
    for (const auto& [id, logit] : row.top)
        told.top.emplace_back(id, row.sum.of(logit));
    return told;
}

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// The sampler of the specification for one choice of a request, with what a request adds to it: end
// tokens that may not come yet, a mask, log-probabilities.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "engine/event.h"
#include "engine/fast_sampler.h"
#include "engine/request.h"
#include "text/tokenizer.h"

namespace etalon::engine {

class Sampler {
  public:
    /// Tokenizer and backend outlive the object; only the backend's functions for rows on the host
    /// are called.
    Sampler(const text::Tokenizer& tokenizer, int vocab_size, const backend::Backend& device);

    /// One of the model's own end tokens, unless ignored, or one of the request's.
    bool ends_answer(const Request& request, std::int32_t token) const;

    /// The token behind `tokens`, of which the first `n_prompt` are the prompt (SMP-1 to SMP-10).
    /// None of the first min_tokens tokens is one that ends the answer. The request's sampling has
    /// its seed. `logits` [vocab_size] are lost. nullopt: ERR-3.
    std::optional<std::int32_t> next(const Request& request, int choice,
                                     std::span<const std::int32_t> tokens, std::size_t n_prompt,
                                     std::span<float> logits);

    /// How the device draws the token behind `answer`. `words` are the caller's own room for a
    /// mask, and outlive the draw, like the request and its tokens. With `n_unknown` tokens
    /// between, which nobody knows yet, for a request without mask and penalties; the draw then
    /// reads no tokens.
    backend::Draw draw_of(const Request& request, int choice, std::span<const std::int32_t> prompt,
                          std::span<const std::int32_t> answer, std::vector<std::uint32_t>& words,
                          std::size_t n_unknown = 0);

    /// As the request asks; `logits` as the model gave them, all finite (SMP-11, SMP-12).
    static TokenLogprobs logprobs(std::span<const float> logits, std::int32_t token, int n_top);
    /// The same from what the device made of the row.
    static TokenLogprobs logprobs(const backend::RowLogprobs& row);

  private:
    /// Flags of the tokens that may come next, or behind n_unknown others; empty when all may.
    std::span<const bool> allowed(const Request& request, std::span<const std::int32_t> answer,
                                  std::size_t n_unknown);

    FastSampler fast_;
    std::vector<std::int32_t> model_ends_;
    std::size_t vocab_size_;
    std::unique_ptr<bool[]> allowed_;  // [vocab_size]
};

}  // namespace etalon::engine

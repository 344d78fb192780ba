// SPDX-License-Identifier: Apache-2.0
// What a request can want to know of its prompt besides an answer: log-probabilities of its tokens,
// or the vector of the whole (SMP-11, VEC-1). Reads the model behind the pass of a step.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "engine/event.h"
#include "engine/scheduler.h"
#include "engine/step_batch.h"
#include "model/transformer.h"

namespace etalon::engine {

class PromptReader {
  public:
    /// The transformer outlives the object.
    explicit PromptReader(model::Transformer& transformer);

    /// A new step begins: nothing that was read belongs to it.
    void forget() { hidden_.clear(); }

    /// `first` is the index in the batch of the share's first token, in both. Both return the
    /// position of a token that has failed, if one has.

    /// The share's hidden states join the pool of its sequence, which begins at position 0.
    std::optional<int> add_to_pool(const Share& share, std::size_t first, const StepBatch& batch);

    /// Appends to `told` the tokens of the prompt that can be told behind this share, from
    /// n_prompt_told of the sequence on.
    std::optional<int> logprobs(const Share& share, std::size_t first, const StepBatch& batch,
                                PromptLogprobs& told);

  private:
    void read_rows(const StepBatch& batch, std::span<const std::int32_t> rows);

    model::Transformer* transformer_;
    std::vector<float> hidden_;                     // of the whole batch, once it was asked for
    std::vector<std::uint8_t> failed_;              // by token of the batch, of the latest reading
    std::unique_ptr<backend::FloatBuffer> logits_;  // [kRows, vocab_size]
    std::vector<float> row_;
};

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// The draws of a step that the device makes beside its pass: one for each row of logits.
//
//   StepDraws draws(shares, batch, sampler, device.can_draw(vocab_size));
//   transformer.start(batch.view(), batch.rows(), kv, logits, draws.draws(), draws.tokens());
//   transformer.finish(batch.view());
//   if (draws.is_drawn(row)) ... draws.token(row) ...      // else the sampler draws on the host
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/operations.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/step_batch.h"

namespace etalon::engine {

class StepDraws {
  public:
    /// Shares and sampler outlive the object. `device_draws` false: nothing is drawn.
    StepDraws(std::span<const Share> shares, const StepBatch& batch, Sampler& sampler,
              bool device_draws);

    std::span<const backend::Draw> draws() const noexcept { return draws_; }
    std::span<std::int32_t> tokens() noexcept { return tokens_; }

    /// Nothing is left to the host; known once the pass has started.
    bool all_are_drawn() const;
    bool is_drawn(std::size_t row) const {
        return row < draws_.size() && draws_[row].parameters != nullptr &&
               tokens_[row] != backend::kNotDrawn;
    }
    /// nullopt: ERR-3.
    std::optional<std::int32_t> token(std::size_t row) const {
        if (tokens_[row] == backend::kNoToken) return std::nullopt;
        return tokens_[row];
    }

    /// Of a row that is drawn and whose request wants log-probabilities.
    const backend::RowLogprobs& logprobs(std::size_t row) const { return logprobs_.at(row); }

  private:
    std::vector<backend::Draw> draws_;                // by row of logits
    std::vector<backend::RowLogprobs> logprobs_;      // likewise
    std::vector<std::int32_t> tokens_;                // likewise
    std::vector<std::vector<std::uint32_t>> masks_;   // likewise
    std::vector<std::vector<std::int32_t>> drafted_;  // answers with their drafts
};

}  // namespace etalon::engine

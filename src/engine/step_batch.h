// SPDX-License-Identifier: Apache-2.0
// The ragged batch of a step: the shares of all sequences, flattened.
//
// Example, a share of tokens 5 9 2 at positions 0 to 2 that does not reach the end of its prompt,
// and one of token 7 at 41 with the draft 8: tokens 5 9 2 7 8, positions 0 1 2 41 42, sequence_of
// 0 0 0 1 1; logits are wanted of tokens 3 and 4, so first_row is 0 for both and 7's row is 0.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/operations.h"
#include "engine/scheduler.h"

namespace etalon::engine {

class StepBatch {
  public:
    /// At least one share; page tables are copied.
    explicit StepBatch(std::span<const Share> shares);

    /// A view of this object, which the backend marks failed tokens in.
    backend::Batch view() noexcept;
    /// The same with other flags, [n_tokens()], for what is read of single tokens behind the pass.
    backend::Batch view(std::span<std::uint8_t> failed) const noexcept;
    std::size_t n_tokens() const noexcept { return tokens_.size(); }
    /// Index in the batch of the first token of share `i`.
    std::size_t first_token(std::size_t i) const { return first_token_[i]; }
    /// Tokens whose logits are wanted: the last token of each share that completes, then its draft.
    std::span<const std::int32_t> rows() const noexcept { return rows_; }
    /// Row of the logits behind the last token of share `i`; its draft has the next ones.
    std::size_t first_row(std::size_t i) const { return first_row_[i]; }
    /// Whether a value of token `k` of share `i` (drafts behind the tokens) was not finite.
    bool failed(std::size_t i, int k) const;

  private:
    void append(const Share& share, std::int32_t index);

    std::vector<std::int32_t> tokens_;
    std::vector<std::int32_t> positions_;
    std::vector<std::int32_t> sequence_of_;
    std::vector<std::vector<std::int32_t>> page_tables_;
    std::vector<std::uint8_t> failed_;
    std::vector<std::int32_t> rows_;
    std::vector<std::size_t> first_token_;  // by share
    std::vector<std::size_t> first_row_;    // by share
};

}  // namespace etalon::engine

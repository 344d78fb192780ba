// SPDX-License-Identifier: Apache-2.0
// Tokens drawn on the card (spec SMP): how each row is drawn goes there in one copy behind the
// forward pass, and the tokens come back with its flags.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cuda/common/memory.h"
#include "backend/cuda/sm90/kernels.h"
#include "backend/operations.h"

namespace etalon::backend::cuda {

/// What the draws of all passes use in turns: the stream orders them.
struct DrawRooms {
    std::vector<std::uint32_t> counts;  ///< [vocab_size] in the answer; 0 between calls
    std::vector<std::uint8_t> seen;     ///< [vocab_size] likewise
    DeviceArray<std::byte> input;
    DeviceArray<std::int32_t> drawn;
    DeviceArray<RowSums> sums;  ///< of rows, where one wants them
    DeviceArray<float> adjusted;
};

/// Those of one pass.
class Draws {
  public:
    /// `rooms` outlive the object.
    explicit Draws(DrawRooms& rooms) : rooms_(&rooms) {}

    /// Starts the draws, once before arrived() or clear(); what it is given stays as it is until
    /// then. vocab_size <= kDrawVocabMax. True: one kernel of sm90/, which `has_sm90` allows, draws
    /// all rows and brings what `back` names.
    bool start(const float* logits, int vocab_size, std::span<const Draw> draws,
               std::span<std::int32_t> tokens, const DrawBack& back, bool has_sm90, Stream stream);
    /// Starts the copies of tokens and log-probabilities to the host, when some are drawn.
    void send(Stream stream) const;
    /// They are there: sets them.
    void arrived();
    void clear() noexcept { rows_.clear(); }

    /// --- for the pass behind, between start() and arrived() ---
    /// Where kernels behind find what is drawn, or kNoToken: at place_of(row) for a row of logits,
    /// which is one of those that start() draws.
    const std::int32_t* tokens() const noexcept { return tokens_at_; }
    std::size_t place_of(std::size_t row) const;
    int vocab_size() const noexcept { return vocab_size_; }

  private:
    void add_row(const Draw& draw, std::size_t row, int vocab_size);
    void add_penalties(const Draw& draw, DrawRow& row);
    void set_logprobs(std::size_t i, RowLogprobs& to) const;
    void make_room(std::size_t vocab, Stream stream);
    void make_input_room(std::size_t bytes, Stream stream);
    void launch(const float* logits, int vocab_size, const DrawBack& back, AtOnce at_once,
                std::size_t n_at_once, Stream stream);
    std::int32_t place() const { return static_cast<std::int32_t>(words_.size()); }

    DrawRooms* rooms_;
    std::vector<DrawRow> rows_;         // in the order of their rows of logits
    std::vector<std::uint32_t> words_;  // that rows_ names
    std::int32_t n_adjusted_ = 0;
    int vocab_size_ = 0;
    std::span<std::int32_t> tokens_;  // of the caller
    std::span<const Draw> draws_;     // likewise
    bool wants_sums_ = false;         // one of rows_ does
    PinnedBytes sent_;
    PinnedBytes received_;  // the kernels write the tokens there, or copies bring them
    PinnedBytes received_sums_;
    const std::int32_t* tokens_at_ = nullptr;  // where the kernels write them
};

}  // namespace etalon::backend::cuda

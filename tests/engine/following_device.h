// SPDX-License-Identifier: Apache-2.0
// A device that draws tokens and on which passes follow each other, as a card does it, over one
// that works at once. What a pass draws shows at its finish(), and who breaks a rule of
// Backend::can_follow() ends the program.
#pragma once

#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "backend/forwarding.h"

namespace etalon::engine {

class FollowingDevice final : public backend::Forwarding {
  public:
    /// Over the CPU with the best instruction set that there is.
    FollowingDevice();

    int n_passes = 0;
    int n_followers = 0;  ///< of them: begun before the pass ahead was finished
    int n_not_drawn = 0;  ///< rows with penalties or bias that had "no room"

    bool can_draw(int vocab_size) const override;
    bool can_follow() const override { return true; }
    void begin(const backend::Batch& batch) override;
    void finish(const backend::Batch& batch) override;
    void embed(const backend::Batch& batch, const backend::Embedding& embedding,
               backend::FloatBuffer& h) override;
    void draw(const backend::Batch& batch, const backend::FloatBuffer& logits, int vocab_size,
              std::span<const backend::Draw> draws, std::span<std::int32_t> tokens) override;
    void download(const backend::FloatBuffer& from, std::size_t offset,
                  std::span<float> to) override;
    std::uint64_t checksum(const backend::FloatBuffer& logits, std::size_t row,
                           int vocab_size) override;

  private:
    struct Pass {
        const std::int32_t* batch = nullptr;  // its tokens, to know it again
        bool is_drawn = false;
        std::span<const backend::Draw> draws;
        std::span<std::int32_t> tokens;  // of the caller
        std::uint64_t given = 0;         // a sum over what the draws point to
        std::vector<std::int32_t> drawn;
        std::vector<backend::RowLogprobs> logprobs;
        std::vector<std::uint64_t> checksums;
    };

    void draw_row(const backend::Draw& draw, std::vector<float> row, Pass& pass, std::size_t i);

    std::deque<Pass> under_way_;            // the older one first
    std::vector<std::int32_t> before_;      // what the pass ahead of the newest one drew
    std::vector<std::uint64_t> checksums_;  // of the pass that was finished last
};

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// One vector for a text: the mean of its tokens' hidden states (spec VEC-1 to VEC-3).
//   MeanPool pool(dim);
//   for each token, ascending: pool.add(e);     // e of VEC-1, [dim]
//   const auto v = pool.finish(true);
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <vector>

namespace etalon::exact {

/// e = (w * h) * scale, scale of NRM-1: the hidden state after the output norm (VEC-1). False: the
/// scale is zero or not finite (ERR-1).
bool hidden_state(std::span<const float> h, std::span<const float> w, float eps,
                  std::span<float> e) noexcept;

class MeanPool {
  public:
    /// `dim` >= 1.
    explicit MeanPool(std::size_t dim) : sum_(dim, 0.0F) {}

    /// The next token's e, [dim]; any value.
    void add(std::span<const float> e) noexcept;  // VEC-2
    std::size_t n_tokens() const noexcept { return n_tokens_; }

    /// The mean of at least one token (VEC-2), divided by its length where that is wanted (VEC-3).
    /// nullopt: a component is not finite, or the length is zero or not finite (ERR-1).
    std::optional<std::vector<float>> finish(bool normalize) const;

  private:
    std::vector<float> sum_;
    std::size_t n_tokens_ = 0;
};

}  // namespace etalon::exact

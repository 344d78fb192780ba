// SPDX-License-Identifier: Apache-2.0
// Cosines and sines of a batch's positions, as the kernels read them (RPE-5). Every layer of a
// forward pass asks for the same, so they are computed once.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backend/cpu/kernels.h"
#include "backend/operations.h"
#include "base/thread_pool.h"

namespace etalon::backend::cpu {

class RopeCache {
  public:
    /// Computes the rows of `positions` unless they are the ones of the last call.
    void prepare(const RopeTables& rope, std::span<const std::int32_t> positions, ThreadPool& pool);
    /// The kernel's arguments for token t.
    RopeHead head(int t, int head_dim) const noexcept;

  private:
    RopeTables rope_;
    std::vector<std::int32_t> positions_;
    std::vector<float> first_;  // [n_tokens, row_floats_]
    std::vector<float> second_;
    std::size_t row_floats_ = 0;
};

}  // namespace etalon::backend::cpu

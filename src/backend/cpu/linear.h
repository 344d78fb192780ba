// SPDX-License-Identifier: Apache-2.0
// Linear layers of the CPU backend: weights repacked (or mapped, for E8 and E4) at load, one
// product a call.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/cpu/activations.h"
#include "backend/cpu/aligned.h"
#include "backend/cpu/linear_kernels.h"
#include "backend/operations.h"
#include "base/thread_pool.h"

namespace etalon::backend::cpu {

/// A group of tokens: rows [first, first + n) of the output.
struct TokenGroup {
    int first = 0;
    int n = 0;
};

/// The input of one product as the kernels read it (linear_kernels.h); kept from
/// product to product.
struct LinearPanels {
    std::vector<TokenGroup> row_groups;
    AlignedVector<std::int8_t> rows;
    std::vector<TokenGroup> run_groups;
    AlignedVector<std::int8_t> runs;
    AlignedVector<float> row_scales;       ///< [n_tokens]
    AlignedVector<std::int32_t> row_sums;  ///< [n_tokens]
    std::vector<TokenGroup> block_groups;
    AlignedVector<QuantizedBlock> blocks;
};

class Linear {
  public:
    explicit Linear(Isa isa);

    /// Bytes that load() keeps in memory for one part.
    std::uint64_t bytes(const weights::Tensor& tensor) const;
    /// Repacks on the pool's threads. Parts share n_cols.
    std::unique_ptr<LinearWeights> load(ThreadPool& pool,
                                        std::span<const weights::Tensor* const> parts,
                                        std::span<const float> bias) const;
    /// y[n_tokens, n_rows] = (or +=) W x for the tokens `rows` of x (all n_tokens in order when
    /// empty): y row i belongs to token rows[i] (LIN, RES-1).
    void run(ThreadPool& pool, const CpuActivations& x, const LinearWeights& w, int n_tokens,
             std::span<const std::int32_t> rows, Store store, float* y);

  private:
    const LinearKernels& kernels_;
    LinearPanels panels_;
    std::vector<AlignedVector<std::byte>> tiles_;  ///< [n_threads], E4 rows as E8 ones
};

}  // namespace etalon::backend::cpu

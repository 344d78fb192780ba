// SPDX-License-Identifier: Apache-2.0
// Linear layers of the CPU backend: weights repacked (or mapped, for E8) at load, one product a
// call.
#pragma once

#include <memory>
#include <span>

#include "backend/cpu/activations.h"
#include "backend/operations.h"
#include "base/thread_pool.h"

namespace etalon::backend::cpu {

/// Bytes that load_linear keeps in memory for one part.
std::uint64_t linear_bytes(Isa isa, const weights::Tensor& tensor);

/// Repacks on the pool's threads. Parts share n_cols.
std::unique_ptr<LinearWeights> load_linear(Isa isa, ThreadPool& pool,
                                           std::span<const weights::Tensor* const> parts,
                                           std::span<const float> bias);

/// y[n_tokens, n_rows] = (or +=) W x for the tokens `rows` of x (all n_tokens in order when empty):
/// y row i belongs to token rows[i] (LIN, RES-1).
void run_linear(Isa isa, ThreadPool& pool, const CpuActivations& x, const LinearWeights& w,
                int n_tokens, std::span<const std::int32_t> rows, Store store, float* y);

}  // namespace etalon::backend::cpu

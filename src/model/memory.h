// SPDX-License-Identifier: Apache-2.0
// What a model needs in memory and what the machine has, compared before anything is allocated.
#pragma once

#include <cstdint>
#include <string>

#include "backend/operations.h"
#include "weights/model_file.h"

namespace etalon::model {

/// Bytes that this process may still use: the smallest of the kernel's estimate (MemAvailable) and
/// what the control group leaves.
std::uint64_t available_memory();

/// Bytes that a model on this backend may use: the device's own, or available_memory().
std::uint64_t available_memory(const backend::Backend& backend);

/// Upper estimates, in bytes.
struct MemoryPlan {
    std::uint64_t weights = 0;    ///< as the backend lays them out
    std::uint64_t kv_cache = 0;   ///< keys and values of n_tokens_max tokens
    std::uint64_t workspace = 0;  ///< the buffers of a batch of n_batch_max

    std::uint64_t all() const noexcept { return weights + kv_cache + workspace; }
    /// "6911 MiB: weights 6700, keys and values 139, workspace 72"
    std::string text() const;
};
MemoryPlan memory_plan(const weights::ModelFile& file, const backend::Backend& backend,
                       int n_tokens_max, int n_batch_max);

/// All of memory_plan().
std::uint64_t needed_memory(const weights::ModelFile& file, const backend::Backend& backend,
                            int n_tokens_max, int n_batch_max);

/// Throws Error(out_of_memory) with the plan and what there is when the model does not fit.
void check_memory(const weights::ModelFile& file, const backend::Backend& backend, int n_tokens_max,
                  int n_batch_max, std::uint64_t available);

}  // namespace etalon::model

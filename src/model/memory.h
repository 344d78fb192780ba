// SPDX-License-Identifier: Apache-2.0
// What a model needs in memory and what the machine has, compared before anything is allocated.
#pragma once

#include <cstdint>

#include "backend/operations.h"
#include "weights/model_file.h"

namespace etalon::model {

/// Bytes that this process may still use: the smallest of the kernel's estimate (MemAvailable) and
/// what the control group leaves.
std::uint64_t available_memory();

/// Bytes that a model on this backend may use: the device's own, or available_memory().
std::uint64_t available_memory(const backend::Backend& backend);

/// An upper estimate of the bytes of weights (as the backend lays them out), a KV cache for
/// `n_tokens_max` tokens and the buffers of a batch of `n_batch_max`.
std::uint64_t needed_memory(const weights::ModelFile& file, const backend::Backend& backend,
                            int n_tokens_max, int n_batch_max);

/// Throws Error(out_of_memory) with both numbers when the model does not fit.
void check_memory(const weights::ModelFile& file, const backend::Backend& backend, int n_tokens_max,
                  int n_batch_max, std::uint64_t available);

}  // namespace etalon::model

// SPDX-License-Identifier: Apache-2.0
// The backend and the threads that a command computes with.
#pragma once

#include <memory>
#include <string>

#include "backend/operations.h"

namespace etalon::cli {

/// Largest batch of a prompt: more tokens at once make no operation faster on a CPU.
inline constexpr int kBatchTokensMax = 512;

/// "cpu": the path of ETALON_ISA, else the best one; "exact": the reference.
std::unique_ptr<backend::Backend> make_backend(const std::string& name, int n_threads);

/// What --threads says; 0: one thread a processor.
int threads_or_all(int n_threads);

}  // namespace etalon::cli

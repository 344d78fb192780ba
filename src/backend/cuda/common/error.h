// SPDX-License-Identifier: Apache-2.0
// Results of CUDA calls as errors of Etalon.
//   check(cudaMemcpy(...), "upload");
#pragma once

#include <cstdint>

namespace etalon::backend::cuda {

/// Throws unless `code`, a cudaError_t, says success. `what` names the call or the kernel.
/// Errors: out_of_memory; unavailable (the card is lost, a kernel failed, ...).
void check(int code, const char* what);

/// The same for an allocation: the message has both counts.
void check_allocation(int code, std::uint64_t bytes);

/// The result of the launch just before.
void check_launch(const char* kernel);

}  // namespace etalon::backend::cuda

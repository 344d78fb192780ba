// SPDX-License-Identifier: Apache-2.0
// The card of a worker, opened while the driver's files still can be.
#pragma once

#include <memory>
#include <string>

#include "backend/operations.h"

namespace etalon::worker {

/// The card that "cuda:N" names or "auto" finds; nullptr: the processor computes. All kernels are
/// loaded with it, since later nothing can be opened. Errors: unavailable (no such card, or it
/// cannot be used).
std::unique_ptr<backend::Backend> open_card(const std::string& name);

}  // namespace etalon::worker

// SPDX-License-Identifier: Apache-2.0
// Messages of every kind with random fields, from a seed.
#pragma once

#include <cstdint>

#include "wire/messages.h"

namespace etalon::wire {

ToWorker random_to_worker(std::uint64_t seed);
ToFront random_to_front(std::uint64_t seed);

}  // namespace etalon::wire

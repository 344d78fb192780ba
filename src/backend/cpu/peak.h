// SPDX-License-Identifier: Apache-2.0
// What a machine can do at most: integer operations from registers, bytes read from memory. `bench`
// states how much of each a model reaches.
//   ThreadPool pool(4);
//   double tops = integer_peak(Isa::avx512, pool).value_or(0) * 1e-12;
#pragma once

#include <cstdint>
#include <optional>

#include "backend/operations.h"
#include "base/thread_pool.h"

namespace etalon::backend {

/// int8 multiplications and additions to int32 a second (an addition counts as an operation) of
/// all threads of the pool, in the instructions that the path `isa` sums exactly with. nullopt:
/// unknown (no such instructions, or not on this processor).
std::optional<double> integer_peak(Isa isa, ThreadPool& pool);

/// Bytes a second that all threads of the pool read from a buffer of `buffer_bytes`, which should
/// be larger than the caches; it is allocated here. At least kReadSliceBytes.
double read_speed(std::uint64_t buffer_bytes, ThreadPool& pool);
inline constexpr std::uint64_t kReadSliceBytes = std::uint64_t{1} << 20;

}  // namespace etalon::backend

// SPDX-License-Identifier: Apache-2.0
// The float mode that the arithmetic needs (spec FLT-1, FLT-3): round to nearest even, subnormals
// kept.
#pragma once

namespace etalon {

/// Ends the process when this thread rounds otherwise or flushes subnormals. Every thread that
/// computes calls it once at its start. The check computes with the operations themselves, so it
/// is the same on every machine.
void assert_float_mode() noexcept;

}  // namespace etalon

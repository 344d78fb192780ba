// SPDX-License-Identifier: Apache-2.0
// Which arithmetic this is: the number in the title of spec/exact-arithmetic.md.
#pragma once

namespace etalon::exact {

/// Two versions may differ in any bit. Etalon files and payloads of answers name it.
inline constexpr int kArithmeticVersion = 2;

}  // namespace etalon::exact

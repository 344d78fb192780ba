// SPDX-License-Identifier: Apache-2.0
// Text from stdin, bounded.
#pragma once

#include <cstddef>
#include <string>

namespace etalon::cli {

/// More bytes cannot fit in any context that weights::kContextMax allows.
inline constexpr std::size_t kTextBytesMax = std::size_t{64} << 20;

/// All of stdin. Errors: usage (more than kTextBytesMax; `what` names it in the message).
std::string read_stdin(const std::string& what);

}  // namespace etalon::cli

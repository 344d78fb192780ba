// SPDX-License-Identifier: Apache-2.0
// Wall-clock time as records, keys and files hold it: since 1970-01-01 UTC, without leap seconds.
#pragma once

#include <chrono>
#include <cstdint>

namespace etalon {

inline constexpr std::uint64_t kSecondUs = 1'000'000;
inline constexpr std::uint64_t kDayUs = 86'400 * kSecondUs;

inline std::uint64_t unix_time_us() {
    const auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

/// In seconds, signed as SQLite holds it.
inline std::int64_t unix_time() {
    return static_cast<std::int64_t>(unix_time_us() / kSecondUs);
}

}  // namespace etalon

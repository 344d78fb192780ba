// SPDX-License-Identifier: Apache-2.0
// A bucket a key.
#include "serve/pace.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "serve/limits.h"

namespace etalon::serve {

namespace {
constexpr double kMinute = 60.0;
}

Paces::Verdict Paces::take(std::int64_t key_id, std::int64_t per_minute, double now) {
    ETALON_ASSERT(per_minute >= 1);
    const auto capacity = static_cast<double>(per_minute);
    if (buckets_.size() >= kPacesMax && buckets_.find(key_id) == buckets_.end()) buckets_.clear();
    const auto [at, is_new] = buckets_.try_emplace(key_id, Bucket{capacity, now});
    Bucket& bucket = at->second;
    const double rate = capacity / kMinute;
    const double elapsed = std::max(0.0, now - bucket.filled);
    bucket.level = std::min(capacity, bucket.level + elapsed * rate);
    bucket.filled = now;
    Verdict verdict;
    verdict.accepted = bucket.level >= 1.0;
    if (verdict.accepted) {
        bucket.level -= 1.0;
    } else {
        verdict.seconds_to_next = (1.0 - bucket.level) / rate;
    }
    verdict.remaining = static_cast<std::int64_t>(std::floor(bucket.level));
    verdict.seconds_to_full = (capacity - bucket.level) / rate;
    return verdict;
}

}  // namespace etalon::serve

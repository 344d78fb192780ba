// SPDX-License-Identifier: Apache-2.0
// How fast a key may ask: a bucket of requests that fills evenly over a minute.
#pragma once

#include <cstdint>
#include <map>

namespace etalon::serve {

/// Kept in memory: after a restart every key has a full bucket.
class Paces {
  public:
    struct Verdict {
        bool accepted = true;
        std::int64_t remaining = 0;    ///< requests that may follow at once
        double seconds_to_full = 0.0;  ///< until `remaining` is the whole minute's again
        double seconds_to_next = 0.0;  ///< where it was not accepted
    };
    /// Takes one request of `per_minute` (>= 1) at the time `now`, in seconds of a steady clock.
    Verdict take(std::int64_t key_id, std::int64_t per_minute, double now);

  private:
    struct Bucket {
        double level = 0.0;
        double filled = 0.0;  // when
    };
    std::map<std::int64_t, Bucket> buckets_;
};

}  // namespace etalon::serve

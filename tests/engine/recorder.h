// SPDX-License-Identifier: Apache-2.0
// Payloads of answers that an engine gave under a random schedule: arrivals, cancels, tenants,
// cached prefixes, preemptions, speculation, masks.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/engine.h"
#include "engine/payload.h"
#include "engine/simulator.h"

namespace etalon::engine {

/// Allows the tokens whose id and place in the answer add up to no multiple of `n` (>= 2).
class EveryNthMask : public TokenMask {
  public:
    explicit EveryNthMask(int n) : n_(n) {}
    void restrict(std::span<const std::int32_t> answer, std::span<bool> allowed) const override;

  private:
    int n_;
};

struct Recorded {
    Payload payload;
    std::shared_ptr<const TokenMask> mask;  ///< as payload.mask says
};

struct Recording {
    std::vector<Recorded> answers;
    Counters counters;
    int n_other_digests = 0;  ///< answers whose DIG-3 is not the one of their payload
};

/// Hash of the tiny model.
const Sha256Digest& tiny_hash();

/// One schedule of requests of the catalogue on tiny_model(), some of them with a mask.
Recording record_schedule(const Catalogue& catalogue, std::uint64_t seed);

}  // namespace etalon::engine

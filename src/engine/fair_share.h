// SPDX-License-Identifier: Apache-2.0
// Whose turn it is: each tenant has a virtual time that grows by the tokens computed for it,
// divided by its weight. The one whose time is least is served next, so over time shares follow the
// weights.
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace etalon::engine {

class FairShare {
  public:
    /// One more sequence of `tenant` is unfinished. A tenant that had none starts at the least time
    /// of those that have some: idling saves nothing up, and what it used before is not forgotten.
    void join(const std::string& tenant, int weight);
    /// One sequence less.
    void leave(const std::string& tenant);

    /// `n_tokens` were given to `tenant`, which has joined.
    void charge(const std::string& tenant, int n_tokens);
    std::uint64_t time(const std::string& tenant) const;  ///< of a tenant that has joined

  private:
    struct Account {
        int n_sequences = 0;
        int weight = 1;
        std::uint64_t time = 0;  // in units of 1 / kUnit tokens at weight 1
    };
    /// The least time of tenants with sequences; 0 without any.
    std::uint64_t least_time() const;

    std::map<std::string, Account> accounts_;  // idle ones until others have caught up with them
};

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// Virtual times in integers. 2^20 units a token: a weight of 1000 still divides finely, and 2^63
// units are 8.8 * 10^12 tokens.
#include "engine/fair_share.h"

#include <algorithm>

#include "base/error.h"
#include "engine/limits.h"

namespace etalon::engine {

namespace {

constexpr std::uint64_t kUnit = std::uint64_t{1} << 20;
static_assert(kUnit > kWeightMax, "a token of the largest weight is still some units");

}  // namespace

std::uint64_t FairShare::least_time() const {
    std::uint64_t least = UINT64_MAX;
    for (const auto& [name, account] : accounts_) {
        if (account.n_sequences > 0) least = std::min(least, account.time);
    }
    return least == UINT64_MAX ? 0 : least;
}

void FairShare::join(const std::string& tenant, int weight) {
    ETALON_ASSERT(weight >= 1 && weight <= kWeightMax);
    const std::uint64_t least = least_time();
    Account& account = accounts_[tenant];
    if (account.n_sequences == 0) account.time = std::max(account.time, least);
    account.weight = weight;
    ++account.n_sequences;
}

void FairShare::leave(const std::string& tenant) {
    Account& account = accounts_.at(tenant);
    ETALON_ASSERT(account.n_sequences > 0);
    if (--account.n_sequences > 0) return;
    const bool all_idle = std::all_of(accounts_.begin(), accounts_.end(), [](const auto& entry) {
        return entry.second.n_sequences == 0;
    });
    // On an idle machine nobody waits for anybody: the past does not count.
    if (all_idle) return accounts_.clear();
    const std::uint64_t least = least_time();
    std::erase_if(accounts_, [&](const auto& entry) {
        return entry.second.n_sequences == 0 && entry.second.time <= least;
    });
}

void FairShare::charge(const std::string& tenant, int n_tokens) {
    ETALON_ASSERT(n_tokens >= 0);
    Account& account = accounts_.at(tenant);
    account.time +=
        static_cast<std::uint64_t>(n_tokens) * kUnit / static_cast<std::uint64_t>(account.weight);
}

std::uint64_t FairShare::time(const std::string& tenant) const {
    return accounts_.at(tenant).time;
}

}  // namespace etalon::engine

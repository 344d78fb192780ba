// SPDX-License-Identifier: Apache-2.0
// Random schedules of the engine under a simulated clock, from a seed alone, and what each request
// must answer whatever the schedule was.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "engine/alone.h"
#include "engine/engine.h"
#include "engine/tiny_model.h"

namespace etalon::engine {

/// A request of the catalogue with the answers that it has alone.
struct Known {
    Request request;                   ///< with a seed and max_tokens
    std::vector<AloneChoice> answers;  ///< by choice
};

/// Requests that share prefixes and differ in everything else. Making one runs it alone.
class Catalogue {
  public:
    Catalogue(std::uint64_t seed, int n_requests);
    const std::vector<Known>& all() const noexcept { return known_; }

  private:
    Request make_request(std::mt19937_64& random) const;

    std::vector<std::vector<std::int32_t>> families_;  // texts that prompts begin with
    std::vector<Known> known_;
};

/// One schedule: an engine of random size, arrivals, cancels, tenants, predictions. `mismatches`
/// says what differed from the run alone; empty when all was equal. On `model`, tiny_model() by
/// default, with EngineOptions::overlap or without.
struct ScheduleResult {
    std::string mismatches;
    Counters counters;
    int n_refused = 0;
    int n_answers = 0;  ///< choices that ended otherwise than by a cancel
    int n_errors = 0;   ///< of them, by ERR-1 to ERR-3
};
ScheduleResult run_schedule(const Catalogue& catalogue, std::uint64_t seed);
ScheduleResult run_schedule(const Catalogue& catalogue, std::uint64_t seed, TinyModel& model,
                            bool overlap);

/// One engine for 24 hours of the simulated clock: about `n_requests` come, in the busy hours
/// twenty times as many as at night. Whenever nobody is left, no page may be either.
struct DayResult {
    ScheduleResult sum;
    std::uint64_t n_steps = 0;
    int n_arrivals = 0;
    int n_quiet = 0;            ///< times that nobody was left
    std::size_t most_open = 0;  ///< requests under way at once
};
DayResult run_day(const Catalogue& catalogue, std::uint64_t seed, int n_requests);

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// Random schedules: whatever shares the engine, an answer is the one that its request has alone.
// 500 schedules; 10,000 when ETALON_SLOW is 1; ETALON_SCHEDULES=N and ETALON_SCHEDULE_SEED=S for
// others, to repeat one that failed: N = 1 and the seed that it printed, in the same kind of build,
// since the catalogue is smaller under AddressSanitizer.
#include <chrono>
#include <cstdlib>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>

#include "engine/simulator.h"

namespace etalon::engine {
namespace {

constexpr std::uint64_t kCatalogueSeed = 1;
constexpr std::uint64_t kDaySeed = 24;

std::uint64_t environment(const char* name, std::uint64_t fallback) {
    const char* value = std::getenv(name);
    return value == nullptr || *value == '\0' ? fallback : std::strtoull(value, nullptr, 10);
}

void add(Counters& sum, const Counters& one) {
    sum.steps += one.steps;
    sum.computed_tokens += one.computed_tokens;
    sum.sampled_tokens += one.sampled_tokens;
    sum.cached_tokens += one.cached_tokens;
    sum.shared_pages += one.shared_pages;
    sum.evicted_pages += one.evicted_pages;
    sum.preemptions += one.preemptions;
    sum.cancelled += one.cancelled;
    sum.drafted_tokens += one.drafted_tokens;
    sum.accepted_tokens += one.accepted_tokens;
}

#ifdef __SANITIZE_ADDRESS__
// Each takes seven times as long, and so does each request of a catalogue, which runs alone.
constexpr std::uint64_t kSchedules = 150;
constexpr int kCatalogueSize = 150;
#else
constexpr std::uint64_t kSchedules = 500;
constexpr int kCatalogueSize = 300;
#endif

TEST(Schedules, every_answer_is_the_one_alone) {  // DIG-3, SMP-11
    using Clock = std::chrono::steady_clock;
    const bool slow = environment("ETALON_SLOW", 0) == 1;
    const std::uint64_t n = environment("ETALON_SCHEDULES", slow ? 10000 : kSchedules);
    const std::uint64_t first = environment("ETALON_SCHEDULE_SEED", 1);
    const auto start = Clock::now();
    const Catalogue catalogue(kCatalogueSeed, kCatalogueSize);
    const auto prepared = Clock::now();
    Counters sum;
    int n_answers = 0;
    int n_refused = 0;
    int n_errors = 0;
    for (std::uint64_t seed = first; seed < first + n; ++seed) {
        const ScheduleResult result = run_schedule(catalogue, seed);
        ASSERT_EQ(result.mismatches, "") << "schedule " << seed;
        add(sum, result.counters);
        n_answers += result.n_answers;
        n_refused += result.n_refused;
        n_errors += result.n_errors;
    }
    const std::chrono::duration<double> alone = prepared - start;
    const std::chrono::duration<double> run = Clock::now() - prepared;
    fmt::print("{} schedules in {:.1f} s (alone: {:.1f} s): {} answers, {} refused, {} errors\n", n,
               run.count(), alone.count(), n_answers, n_refused, n_errors);
    fmt::print("{} steps, {} computed, {} sampled, {} cached tokens\n", sum.steps,
               sum.computed_tokens, sum.sampled_tokens, sum.cached_tokens);
    fmt::print(
        "{} evictions, {} preemptions, {} cancels, {} shared pages, {} drafted, {} accepted\n",
        sum.evicted_pages, sum.preemptions, sum.cancelled, sum.shared_pages, sum.drafted_tokens,
        sum.accepted_tokens);
    if (n < 100) return;  // too few to meet everything
    for (const std::uint64_t count : {sum.evicted_pages, sum.preemptions, sum.cancelled,
                                      sum.shared_pages, sum.drafted_tokens, sum.accepted_tokens}) {
        EXPECT_GT(count, 0U);
    }
    EXPECT_GT(n_refused, 0);
    EXPECT_GT(n_errors, 0);
}

/// A day in one engine: 800 requests; 20,000 when ETALON_SLOW is 1.
TEST(Schedules, a_day_of_random_load_leaves_nothing_behind) {
    const bool slow = environment("ETALON_SLOW", 0) == 1;
    const auto n_requests = static_cast<int>(environment("ETALON_DAY", slow ? 20000 : 800));
    const Catalogue catalogue(kCatalogueSeed, kCatalogueSize);
    const DayResult day = run_day(catalogue, kDaySeed, n_requests);
    EXPECT_EQ(day.sum.mismatches, "");
    fmt::print(
        "{} requests in 24 h, {} steps, at most {} at once, {} times nobody: {} answers, "
        "{} preemptions, {} evictions, {} cancels\n",
        day.n_arrivals, day.n_steps, day.most_open, day.n_quiet, day.sum.n_answers,
        day.sum.counters.preemptions, day.sum.counters.evicted_pages, day.sum.counters.cancelled);
    EXPECT_GT(day.n_arrivals, n_requests / 2);
    EXPECT_GT(day.n_quiet, 10);
    EXPECT_GT(day.most_open, 6U);  // more than are computed at once
    EXPECT_GT(day.sum.counters.preemptions, 0U);
    EXPECT_GT(day.sum.counters.evicted_pages, 0U);
    EXPECT_GT(day.sum.counters.cancelled, 0U);
}

}  // namespace
}  // namespace etalon::engine

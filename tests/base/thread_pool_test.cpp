// SPDX-License-Identifier: Apache-2.0
// The thread pool: every task once, over many loops, after a sleep, and with one thread.
#include "base/thread_pool.h"

#include <array>
#include <atomic>
#include <chrono>
#include <ctime>
#include <gtest/gtest.h>
#include <thread>
#include <vector>

#include "base/error.h"

namespace {

using etalon::ThreadPool;
using namespace std::chrono_literals;

class ThreadPoolOf : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolOf, runs_every_task_once) {
    ThreadPool pool(GetParam());
    EXPECT_EQ(pool.n_threads(), GetParam());
    for (const int n_tasks : {0, 1, 2, 3, 7, 64, 1000}) {
        std::vector<int> runs(static_cast<std::size_t>(n_tasks), 0);
        pool.run(n_tasks, [&](int task, int) { ++runs[static_cast<std::size_t>(task)]; });
        for (const int count : runs)
            EXPECT_EQ(count, 1);
    }
}

TEST_P(ThreadPoolOf, names_threads_within_its_number) {
    ThreadPool pool(GetParam());
    std::atomic<int> wrong{0};
    pool.run(500, [&](int, int thread) {
        if (thread < 0 || thread >= GetParam()) ++wrong;
    });
    EXPECT_EQ(wrong.load(), 0);
}

TEST_P(ThreadPoolOf, many_loops_see_the_writes_of_the_loop_before) {
    ThreadPool pool(GetParam());
    constexpr std::size_t kTasks = 5;
    constexpr int kLoops = 5000;
    // Plain ints on purpose: run() must order the loops, and a thread sanitizer sees when not.
    std::array<std::array<int, kTasks>, 2> counts{};
    for (int loop = 0; loop < kLoops; ++loop) {
        const auto& before = counts[static_cast<std::size_t>(loop % 2)];
        auto& after = counts[static_cast<std::size_t>((loop + 1) % 2)];
        pool.run(kTasks, [&](int task, int) {
            const auto own = static_cast<std::size_t>(task);
            after[own] = before[(own + 1) % kTasks] + 1;
        });
        for (const int count : after)
            ASSERT_EQ(count, loop + 1);
    }
}

TEST_P(ThreadPoolOf, wakes_up_after_a_sleep) {
    ThreadPool pool(GetParam());
    for (int round = 0; round < 3; ++round) {
        std::this_thread::sleep_for(20ms);
        std::atomic<int> sum{0};
        pool.run(100, [&](int task, int) { sum += task; });
        EXPECT_EQ(sum.load(), 4950);
    }
}

TEST_P(ThreadPoolOf, tasks_of_unequal_length_all_end_before_run_returns) {
    ThreadPool pool(GetParam());
    std::atomic<int> ended{0};
    pool.run(8, [&](int task, int) {
        if (task == 0) std::this_thread::sleep_for(10ms);
        ++ended;
    });
    EXPECT_EQ(ended.load(), 8);
}

INSTANTIATE_TEST_SUITE_P(threads, ThreadPoolOf, testing::Values(1, 2, 3, 4, 9));

TEST(ThreadPool, starts_and_ends_without_work) {
    for (int round = 0; round < 50; ++round) {
        ThreadPool pool(1 + round % 5);
        EXPECT_EQ(pool.n_threads(), 1 + round % 5);
    }
}

TEST(ThreadPool, uses_no_processor_time_when_idle) {
    ThreadPool pool(4);
    pool.run(4, [](int, int) {});
    std::this_thread::sleep_for(50ms);  // beyond the short active wait
    timespec before{};
    timespec after{};
    ASSERT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before), 0);
    std::this_thread::sleep_for(300ms);
    ASSERT_EQ(clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after), 0);
    const auto used_ns =
        (after.tv_sec - before.tv_sec) * 1'000'000'000L + (after.tv_nsec - before.tv_nsec);
    EXPECT_LT(used_ns, 30'000'000L);  // one spinning thread alone would use 300 ms
}

TEST(ThreadPoolDeathTest, refuses_a_number_of_threads_outside_its_range) {
    EXPECT_DEATH(ThreadPool(0), "n_threads");
    EXPECT_DEATH(ThreadPool(etalon::kThreadsMax + 1), "n_threads");
}

TEST(UsableProcessors, is_at_least_one) {
    EXPECT_GE(etalon::usable_processors(), 1);
}

}  // namespace

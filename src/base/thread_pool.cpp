// SPDX-License-Identifier: Apache-2.0
// A pool of threads for loops over independent tasks.
#include "base/thread_pool.h"

#include <algorithm>
#include <sched.h>

#include "base/error.h"
#include "base/float_mode.h"

namespace etalon {

namespace {

// About 50 us of pauses: longer than the gap between two loops of a forward pass, shorter than
// anything a person or a scheduler would notice.
constexpr int kSpinsBeforeSleep = 2000;

void pause_briefly() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

/// Returns once `value` differs from `old`: first spinning, then asleep.
template <typename T>
T wait_while_equal(const std::atomic<T>& value, T old) noexcept {
    for (int spin = 0; spin < kSpinsBeforeSleep; ++spin) {
        const T now = value.load(std::memory_order_acquire);
        if (now != old) return now;
        pause_briefly();
    }
    value.wait(old, std::memory_order_acquire);
    return value.load(std::memory_order_acquire);
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) {
    ETALON_ASSERT(n_threads >= 1 && n_threads <= kThreadsMax);
    assert_float_mode();
    threads_.reserve(static_cast<std::size_t>(n_threads - 1));
    for (int thread = 1; thread < n_threads; ++thread) {
        threads_.emplace_back([this, thread] { worker_main(thread); });
    }
}

ThreadPool::~ThreadPool() {
    stop_.store(true, std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    for (std::thread& thread : threads_)
        thread.join();
}

void ThreadPool::run(int n_tasks, TaskRef task) {
    ETALON_ASSERT(n_tasks >= 0);
    if (threads_.empty() || n_tasks <= 1) {
        for (int i = 0; i < n_tasks; ++i)
            task(i, 0);
        return;
    }
    task_ = &task;
    n_tasks_ = n_tasks;
    next_task_.store(0, std::memory_order_relaxed);
    running_.store(static_cast<int>(threads_.size()), std::memory_order_relaxed);
    generation_.fetch_add(1, std::memory_order_release);
    generation_.notify_all();
    work(0);
    int running = running_.load(std::memory_order_acquire);
    while (running != 0)
        running = wait_while_equal(running_, running);
}

void ThreadPool::work(int thread) {
    const int n_tasks = n_tasks_;
    for (;;) {
        const int i = next_task_.fetch_add(1, std::memory_order_relaxed);
        if (i >= n_tasks) return;
        (*task_)(i, thread);
    }
}

void ThreadPool::worker_main(int thread) {
    assert_float_mode();
    std::uint32_t seen = 0;
    for (;;) {
        seen = wait_while_equal(generation_, seen);
        if (stop_.load(std::memory_order_relaxed)) return;
        work(thread);
        if (running_.fetch_sub(1, std::memory_order_acq_rel) == 1) running_.notify_one();
    }
}

int usable_processors() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (sched_getaffinity(0, sizeof(set), &set) != 0) {
        return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
    }
    return std::max(1, CPU_COUNT(&set));
}

}  // namespace etalon

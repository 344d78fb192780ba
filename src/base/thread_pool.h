// SPDX-License-Identifier: Apache-2.0
// A pool of threads for loops over independent tasks. Between loops a thread waits actively for a
// short while only (a forward pass has hundreds of loops a token), then sleeps in the kernel.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <vector>

namespace etalon {

/// Largest number of threads a pool accepts: more is a typing error, not a machine.
inline constexpr int kThreadsMax = 1024;

/// A reference to a callable `void(int task, int thread)`; it does not own it.
class TaskRef {
  public:
    template <typename F>
    TaskRef(const F& f)  // NOLINT(google-explicit-constructor): a view, as std::span is
        : object_(&f), call_([](const void* o, int task, int thread) {
              (*static_cast<const F*>(o))(task, thread);
          }) {}
    void operator()(int task, int thread) const { call_(object_, task, thread); }

  private:
    const void* object_;
    void (*call_)(const void*, int, int);
};

/// Example: pool.run(rows, [&](int row, int thread) { ... });
/// Tasks are handed out in ascending order, one at a time; which thread takes which is not defined,
/// so a task may only write what it owns. Tasks must not throw. run() is not reentrant and is
/// called from one thread at a time; the caller works too.
class ThreadPool {
  public:
    /// `n_threads` in [1, kThreadsMax] counts the caller; 1 starts no thread.
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int n_threads() const noexcept { return static_cast<int>(threads_.size()) + 1; }
    void run(int n_tasks, TaskRef task);

  private:
    void work(int thread);
    void worker_main(int thread);

    std::vector<std::thread> threads_;
    const TaskRef* task_ = nullptr;
    int n_tasks_ = 0;
    alignas(64) std::atomic<int> next_task_{0};
    alignas(64) std::atomic<std::uint32_t> generation_{0};  // +1 a loop; odd or even means nothing
    alignas(64) std::atomic<int> running_{0};               // workers that have not left the loop
    std::atomic<bool> stop_{false};
};

/// Number of processors that this process may use (affinity and cgroup count), at least 1.
int usable_processors() noexcept;

}  // namespace etalon

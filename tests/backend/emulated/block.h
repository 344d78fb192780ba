// SPDX-License-Identifier: Apache-2.0
// Blocks of a kernel on the processor, one after the other, a thread for each of theirs.
//   run_blocks({4, 1, 1}, 288, [&] { kernel(w, x, out); });
#pragma once

#include <array>
#include <condition_variable>
#include <cuda_runtime.h>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

inline thread_local uint3 threadIdx;
inline thread_local uint3 blockIdx;
inline dim3 blockDim;

namespace etalon::emulated {

/// As bar.sync and bar.arrive of a card: complete when so many threads have come.
class Barrier {
  public:
    void meet(int n_threads, bool wait) {
        std::unique_lock lock(mutex_);
        const long turn = turn_;
        if (++n_arrived_ == n_threads) {
            n_arrived_ = 0;
            ++turn_;
            complete_.notify_all();
            return;
        }
        if (wait) complete_.wait(lock, [&] { return turn_ != turn; });
    }
    bool is_idle() const { return n_arrived_ == 0; }

  private:
    std::mutex mutex_;
    std::condition_variable complete_;
    int n_arrived_ = 0;
    long turn_ = 0;
};

inline constexpr int kWarpThreads = 32;

/// What the threads of a warp show each other.
struct Warp {
    Barrier barrier;
    std::array<std::array<unsigned, 6>, kWarpThreads> words;
    std::array<const void*, kWarpThreads> addresses;
};

/// Of the block that runs: barrier 0 is that of all threads.
inline std::array<Barrier, 16> barriers;
inline std::array<Warp, 32> warps;

inline int lane() {
    return static_cast<int>(threadIdx.x) % kWarpThreads;
}
inline Warp& warp() {
    return warps[threadIdx.x / kWarpThreads];
}
inline void meet_warp() {
    warp().barrier.meet(kWarpThreads, true);
}

/// Errors: std::logic_error where a barrier has arrivals left over.
template <typename Work>
void run_blocks(dim3 grid, int n_threads, const Work& work) {
    blockDim = dim3(static_cast<unsigned>(n_threads));
    for (unsigned block = 0; block < grid.x * grid.y; ++block) {
        std::vector<std::thread> threads;
        for (int i = 0; i < n_threads; ++i) {
            threads.emplace_back([&, i] {
                threadIdx = {static_cast<unsigned>(i), 0, 0};
                blockIdx = {block % grid.x, block / grid.x, 0};
                work();
            });
        }
        for (std::thread& thread : threads)
            thread.join();
        for (const Barrier& barrier : barriers) {
            if (!barrier.is_idle()) throw std::logic_error("arrivals that nobody waits for");
        }
    }
}

}  // namespace etalon::emulated

// SPDX-License-Identifier: Apache-2.0
// Weights from the file to the card: threads copy from where the file is mapped into a ring of
// pinned memory while the card fetches what they copied before.
//   loader.copy(w.data(), tensor.data);          // returns before the copy has ended
//   launch_e8_layout(..., loader.stream());      // what follows on the stream sees it
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

#include "backend/cuda/common/event.h"
#include "backend/cuda/common/memory.h"
#include "backend/cuda/sm80/kernels.h"
#include "base/thread_pool.h"

namespace etalon::backend::cuda {

class Loader {
  public:
    explicit Loader(Stream stream) : stream_(stream) {}

    Stream stream() const noexcept { return stream_; }
    /// `from` may change when this returns.
    void copy(void* to, std::span<const std::byte> from);
    /// Memory of the card for what the stream works up before the next call.
    std::byte* scratch(std::size_t bytes);
    /// Something was copied since the last release().
    bool is_open() const noexcept { return ring_ != nullptr; }
    /// Loading is over for now: the ring, the scratch and the threads are freed once their copies
    /// have ended. A sandbox that closes afterwards may refuse new threads.
    void release();

  private:
    struct Slot {
        PinnedBytes bytes;
        Event left;  // the copy to the card
    };
    static constexpr std::size_t kSlots = 4;

    ThreadPool& threads();

    Stream stream_;
    std::unique_ptr<std::array<Slot, kSlots>> ring_;
    std::size_t next_ = 0;
    DeviceArray<std::byte> scratch_;
    std::unique_ptr<ThreadPool> threads_;
};

}  // namespace etalon::backend::cuda

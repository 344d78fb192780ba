// SPDX-License-Identifier: Apache-2.0
// Forward passes as CUDA graphs: a pass that was seen twice is started with one call instead of one
// for each of its kernels. A generated token is a chain of hundreds of short kernels, and the host
// cannot start them as fast as the card runs them.
#pragma once

#include <array>
#include <list>

#include "backend/cuda/sm80/kernels.h"

struct CUgraphExec_st;

namespace etalon::backend::cuda {

/// All that the parameters of the kernels of a pass depend on.
struct GraphKey {
    std::uint64_t model = 0;
    const float* logits = nullptr;
    KvView kv;
    BatchView batch;
    int n_chunks = 0;
    int n_trials = 0;                    ///< of decode_host.h: a pass that is tried is not recorded
    std::array<const void*, 8> rooms{};  ///< the backend's own buffers

    bool operator==(const GraphKey&) const = default;
};

class Graphs {
  public:
    Graphs() = default;
    ~Graphs() { clear(); }
    Graphs(const Graphs&) = delete;
    Graphs& operator=(const Graphs&) = delete;

    /// True: the pass was started. The second time that a key is seen the operations that follow
    /// are recorded, not run, until finish(); the first time, buffers still grow.
    bool begin(const GraphKey& key, Stream stream);
    bool is_recording() const noexcept { return recording_; }
    /// Ends a recording and runs it.
    void finish(Stream stream);
    /// Ends a recording that an error cut short.
    void abandon(Stream stream) noexcept;
    /// What was recorded may point to memory that is gone.
    void clear() noexcept;

  private:
    struct Entry {
        GraphKey key;
        CUgraphExec_st* graph = nullptr;
    };
    std::list<Entry> entries_;  // used last first
    bool recording_ = false;
};

}  // namespace etalon::backend::cuda

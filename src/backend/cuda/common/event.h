// SPDX-License-Identifier: Apache-2.0
// A point in the work of a stream that the host can wait for, or take the time of.
#pragma once

#include "backend/cuda/sm80/kernels.h"

struct CUevent_st;

namespace etalon::backend::cuda {

class Event {
  public:
    Event() = default;
    ~Event();
    Event(const Event&) = delete;
    Event& operator=(const Event&) = delete;

    void record(Stream stream);
    /// Returns at once when nothing was recorded.
    void wait() const;
    /// Milliseconds from `begin` to this one; both were recorded. Waits.
    float since(const Event& begin) const;

  private:
    CUevent_st* event_ = nullptr;  // made by the first record()
};

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Points in the work of a stream.
#include "backend/cuda/common/event.h"

#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"
#include "base/error.h"

namespace etalon::backend::cuda {

Event::~Event() {
    if (event_ != nullptr) (void)cudaEventDestroy(event_);
}

void Event::record(Stream stream) {
    if (event_ == nullptr) check(cudaEventCreate(&event_), "event");
    check(cudaEventRecord(event_, stream), "event");
}

void Event::wait() const {
    if (event_ != nullptr) check(cudaEventSynchronize(event_), "event");
}

float Event::since(const Event& begin) const {
    ETALON_ASSERT(event_ != nullptr && begin.event_ != nullptr);
    wait();
    float milliseconds = 0.0F;
    check(cudaEventElapsedTime(&milliseconds, begin.event_, event_), "event");
    return milliseconds;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Begin and end of forward passes on the card.
#include "backend/cuda/passes.h"

#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"
#include "base/error.h"

namespace etalon::backend::cuda {

/// Starts what comes to the host behind the operations of the pass.
void Passes::send(Pass& pass, Stream stream) {
    if (pass.is_sent) return;
    pass.results.send(stream);
    pass.draws.send(stream);
    pass.host.send_flags(stream);
    pass.is_sent = true;
}

/// What was begun and never finished may still read the host's copy.
void Passes::forget_newest(Stream stream) {
    check(cudaStreamSynchronize(stream), "forward pass");
    if (--n_under_way_ > 0) newest_ = 1 - newest_;
}

void Passes::begin(const Batch& batch, Stream stream) {
    if (n_under_way_ > 0 && !newest().is_drawn) forget_newest(stream);
    ETALON_ASSERT(n_under_way_ < 2);
    const bool follows = n_under_way_ == 1;
    const Draws* before = nullptr;
    if (follows) {
        send(newest(), stream);
        newest().sent.record(stream);
        before = &newest().draws;
    } else {
        newest().results.clear();
    }
    const std::size_t next = 1 - newest_;
    Pass& pass = passes_[next];
    pass.results.clear();
    pass.draws.clear();
    pass.is_drawn = false;
    pass.is_sent = false;
    batch_.send(batch, before, pass.host, stream);
    newest_ = next;
    ++n_under_way_;
}

void Passes::finish(const Batch& batch, Stream stream) {
    // An older one that nobody finished, after an error, is forgotten.
    if (n_under_way_ == 2 && !passes_[1 - newest_].host.holds(batch)) {
        check(cudaStreamSynchronize(stream), "forward pass");
        n_under_way_ = 1;
    }
    const bool is_followed = n_under_way_ == 2;
    const std::size_t index = is_followed ? 1 - newest_ : newest_;
    Pass& pass = passes_[index];
    ETALON_ASSERT(n_under_way_ > 0 && pass.host.holds(batch));
    --n_under_way_;
    if (is_followed) {
        pass.sent.wait();  // and not for the one behind
    } else {
        send(pass, stream);
        check(cudaStreamSynchronize(stream), "forward pass");
    }
    pass.host.arrived(batch);
    pass.results.arrived();
    pass.draws.arrived();
    finished_ = index;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// What the engine reaches with many requests at once: `bench --requests`.
#pragma once

#include <vector>

#include "backend/operations.h"
#include "weights/model_file.h"

namespace etalon::cli {

/// Equal requests that come together; none shares a prefix with another.
struct ManyRequests {
    int n_requests = 0;
    int n_prompt = 0;   ///< tokens of each
    int n_answer = 0;   ///< likewise; exactly as many are drawn, at temperature 1
    int n_streams = 0;  ///< answers that are computed at once; 0: as many as a worker does
};

struct ManyRequestsTime {
    std::vector<double> seconds;  ///< of each repetition, until the last answer has ended
    int n_streams = 0;
    int n_batch = 0;            ///< tokens of a step at most
    std::uint64_t n_steps = 0;  ///< of the last repetition
};

/// Errors: out_of_memory (with both numbers), usage (they do not fit into the context).
ManyRequestsTime measure_many_requests(const weights::ModelFile& file, backend::Backend& device,
                                       const ManyRequests& many, int repetitions);

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// What a replay costs beside the pass of the model that it needs: `bench --all-logits`.
#pragma once

#include <string>
#include <vector>

#include "backend/operations.h"
#include "weights/model_file.h"

namespace etalon::cli {

/// An answer that was sampled in one way. Seconds of each repetition, taken in turn; both went over
/// the same tokens and began without keys.
struct AllLogitsRow {
    std::string sampling;
    int n_tokens = 0;                    ///< of prompt and answer that went through the model
    std::vector<double> pass_seconds;    ///< the pass with logits at every answer position, alone
    std::vector<double> replay_seconds;  ///< the whole replay: checksums and draws too
};

/// Generates answers of `n_answer` tokens to a prompt of `n_prompt` (both >= 1), at temperature 0,
/// at 1, and at 0.7 with top-p 0.9, then measures. Errors: failure (a replay does not match).
std::vector<AllLogitsRow> measure_all_logits(const weights::ModelFile& file,
                                             backend::Backend& device, int n_prompt, int n_answer,
                                             int repetitions, int n_threads);

}  // namespace etalon::cli

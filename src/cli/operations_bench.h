// SPDX-License-Identifier: Apache-2.0
// How long each operation of a layer takes, alone: `bench --operations`.
#pragma once

#include <string>
#include <vector>

#include "backend/operations.h"
#include "weights/model_file.h"

namespace etalon::cli {

struct OperationTime {
    std::string name;
    double seconds = 0.0;     ///< of one layer
    double bytes = 0.0;       ///< that it has to read: weights, keys and values
    double operations = 0.0;  ///< int8 multiplications and additions
};

struct OperationsTable {
    std::string batch;  ///< what the tokens are
    int n_tokens = 0;
    std::vector<OperationTime> rows;
};

/// Operations are started one by one, so that short ones may show how fast the host starts them.
/// A prompt of `n_prompt` tokens, and a token each of `n_streams` sequences behind `n_context`
/// others; 0 leaves one out. An operation runs over the weights of all layers in turn, so that no
/// cache has them. Errors: out_of_memory.
std::vector<OperationsTable> measure_operations(const weights::ModelFile& file,
                                                backend::Backend& device, int n_prompt,
                                                int n_streams, int n_context);

}  // namespace etalon::cli

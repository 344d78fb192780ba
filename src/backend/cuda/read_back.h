// SPDX-License-Identifier: Apache-2.0
// What the buffers of the card hold, in the order of operations.h: for tests and inspection. The
// stream is idle when these are called.
#pragma once

#include "backend/cuda/buffers.h"

namespace etalon::backend::cuda {

HostActivations read_activations(const CudaActivations& x, int n_tokens);
HostVector read_query(const CudaQueries& queries, int token, int head);
HostVector read_key(const CudaKvCache& kv, int layer, int page, int slot, int head);
HostVector read_value(const CudaKvCache& kv, int layer, int page, int slot, int head);

/// Number of a head's page among all (head_page of common/kv_address.cuh).
std::size_t page_index(const KvShape& shape, int layer, int page, int head);

}  // namespace etalon::backend::cuda

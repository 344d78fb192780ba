// SPDX-License-Identifier: Apache-2.0
// What a trial of all layers as one kernel compares (decode_host.h).
#pragma once

#include <cstdint>
#include <vector>

#include "backend/cuda/buffers.h"

namespace etalon::backend::cuda {

/// What the layers of a pass left.
struct LayersResult {
    std::vector<float> h;              ///< [T, dim]
    std::vector<std::uint8_t> failed;  ///< [T]
    std::vector<HostVector> written;   ///< keys and values of the tokens, in every layer

    /// The same bits; values of a token that failed are read by nobody.
    bool operator==(const LayersResult& other) const;
};

/// The stream is idle.
LayersResult read_layers_result(const Batch& batch, const BatchView& view, const CudaKvCache& kv,
                                const FloatBuffer& h, int dim);

}  // namespace etalon::backend::cuda

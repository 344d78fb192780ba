// SPDX-License-Identifier: Apache-2.0
// What the CUDA backend hands out: the buffers of operations.h with their memory on the card.
#pragma once

#include <vector>

#include "backend/cuda/common/memory.h"
#include "backend/cuda/sm80/kernels.h"
#include "backend/operations.h"

namespace etalon::backend::cuda {

/// Largest head_dim: a lane of a warp owns 16 elements of a head.
inline constexpr int kHeadDimMax = 512;

constexpr int round_up(int n, int multiple) noexcept {
    return (n + multiple - 1) / multiple * multiple;
}

struct CudaFloats final : FloatBuffer {
    explicit CudaFloats(DeviceArray<float> floats)
        : FloatBuffer(floats.data(), floats.size()), storage(std::move(floats)) {}
    DeviceArray<float> storage;
};

struct CudaActivations final : Activations {
    DeviceArray<std::int8_t> row_q;
    DeviceArray<float> row_scales;
    DeviceArray<std::int8_t> block_q;
    DeviceArray<float> block_scales;
    DeviceArray<std::int16_t> half_sums;
    DeviceArray<float> floats;
    bool across = false;  ///< what was last put in row_q (ActivationsView)

    int stride() const noexcept { return round_up(n_cols, kRowAlignment); }
    ActivationsView view() const noexcept {
        return {row_q.data(),
                row_scales.data(),
                block_q.data(),
                block_scales.data(),
                half_sums.data(),
                floats.data(),
                n_cols,
                stride(),
                across};
    }
};

struct CudaQueries final : Queries {
    DeviceArray<std::int8_t> q;
    DeviceArray<float> scales;

    int dim_stride() const noexcept { return round_up(head_dim, 16); }
    QueriesView view() const noexcept {
        return {q.data(), scales.data(), n_heads, head_dim, dim_stride()};
    }
};

struct CudaKvCache final : KvCache {
    DeviceArray<std::int8_t> keys;
    DeviceArray<std::int8_t> values;
    DeviceArray<float> key_scales;
    DeviceArray<float> value_scales;

    KvView view() const noexcept {
        return {keys.data(),   values.data(),    key_scales.data(), value_scales.data(),
                shape.n_pages, shape.n_kv_heads, shape.head_dim,    round_up(shape.head_dim, 16)};
    }
};

struct CudaEmbedding final : Embedding {
    DeviceArray<std::byte> rows;
    DeviceArray<float> d;
    exact::Format format = exact::Format::f32;
    std::size_t row_bytes = 0;

    EmbeddingView view() const noexcept { return {format, rows.data(), d.data(), row_bytes, dim}; }
};

/// One or more tensors of a stack that a kernel multiplies together: E8 tensors that follow each
/// other are one part, and E4 tensors whose rows are whole tiles.
struct LinearPart {
    exact::Format format = exact::Format::e8;
    int first_row = 0;  ///< in the stack
    int n_rows = 0;
    /// e8: rows; e4: groups (sm80/e4.cuh); blocked: records; floating: rows as stored
    DeviceArray<std::byte> data;
    DeviceArray<float> d;  ///< e8, e4
};

struct CudaLinear final : LinearWeights {
    std::vector<LinearPart> parts;
    DeviceArray<float> bias;
};

}  // namespace etalon::backend::cuda

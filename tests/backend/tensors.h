// SPDX-License-Identifier: Apache-2.0
// Random weights of every format, as a checked model file could hold them.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "backend/conformance.h"
#include "backend/cpu/aligned.h"
#include "exact/formats.h"
#include "weights/model_file.h"

namespace etalon::backend::conformance {

enum class Weights : std::uint8_t {
    usual,    ///< random codes, scales of the size that models have
    extreme,  ///< codes at the ends of their ranges, often all of a row or a block at the same end;
              ///< scales zero, subnormal, largest, negative
    model,    ///< random codes, weights below 2^-4: a whole model of them stays in range
};

/// A tensor and its bytes, which end where the storage ends. Tiles and lines start on a cache line,
/// as in an Etalon file; other formats start where GGUF and safetensors files may put them: at 8
/// bytes, and at 2.
struct OwnedTensor {
    weights::Tensor tensor;
    cpu::AlignedVector<std::byte> data;
    std::vector<float> scales;
    cpu::AlignedVector<std::byte> indices;
};

/// A matrix as a linear layer reads it. E8 in tiles (n_cols a multiple of 4), E4 in lines (of 32).
std::unique_ptr<OwnedTensor> random_matrix(Random& random, exact::Format format, int n_rows,
                                           int n_cols, Weights kind);
/// A matrix of which rows are read: E8 in rows, else as above. E4 is none.
std::unique_ptr<OwnedTensor> random_embedding(Random& random, exact::Format format, int n_rows,
                                              int n_cols, Weights kind);

/// Every format of a linear layer.
std::vector<exact::Format> linear_formats();
/// Every format of an embedding: all but E4.
std::vector<exact::Format> embedding_formats();

}  // namespace etalon::backend::conformance

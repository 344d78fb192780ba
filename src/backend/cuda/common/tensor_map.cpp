// SPDX-License-Identifier: Apache-2.0
// Tensor maps, by the driver: the program is not linked to it.
#include "backend/cuda/common/tensor_map.cuh"

#include <cstdint>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include "backend/cuda/common/error.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr unsigned kDriverVersion = 12000;  // the first that has tensor maps
constexpr int kTileRowsMax = 256;

using Encode = decltype(&cuTensorMapEncodeTiled);

Encode encoder() {
    static const Encode encode = [] {
        void* function = nullptr;
        cudaDriverEntryPointQueryResult found{};
        check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, kDriverVersion,
                                               cudaEnableDefault, &found),
              "tensor maps");
        if (found != cudaDriverEntryPointSuccess) {
            throw Error(ExitCode::unavailable, "the driver has no tensor maps",
                        "install a newer driver, or use --device cpu");
        }
        return reinterpret_cast<Encode>(function);
    }();
    return encode;
}

/// Tiles of bytes, `n_dims` dimensions of the matrix from the innermost on; `strides` from the
/// second one on.
CUtensorMap encode(const void* matrix, cuuint32_t n_dims, const cuuint64_t* sizes,
                   const cuuint64_t* strides, const cuuint32_t* tile) {
    const cuuint32_t steps[] = {1, 1, 1, 1};
    CUtensorMap map{};
    const CUresult result =
        encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, n_dims, const_cast<void*>(matrix), sizes,
                  strides, tile, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) {
        throw Error(ExitCode::failure, fmt::format("tensor map of {} bytes a row: driver error {}",
                                                   sizes[0], static_cast<int>(result)));
    }
    return map;
}

}  // namespace

CUtensorMap tensor_map(const void* matrix, int n_rows, int stride, int tile_rows) {
    ETALON_ASSERT(n_rows >= 1 && tile_rows >= 1 && tile_rows <= kTileRowsMax);
    ETALON_ASSERT(stride >= 1 && stride % 16 == 0);
    const cuuint64_t sizes[] = {static_cast<cuuint64_t>(stride), static_cast<cuuint64_t>(n_rows)};
    const cuuint64_t strides[] = {static_cast<cuuint64_t>(stride)};
    const cuuint32_t tile[] = {kTensorTileBytes, static_cast<cuuint32_t>(tile_rows)};
    return encode(matrix, 2, sizes, strides, tile);
}

CUtensorMap tensor_map_gate_up(const void* matrix, int n_rows, int stride, int tile_rows) {
    constexpr int kTurn = 8;
    ETALON_ASSERT(n_rows >= 2 * kTurn && n_rows % (2 * kTurn) == 0 && stride >= 1);
    ETALON_ASSERT(tile_rows % (2 * kTurn) == 0 && tile_rows <= kTileRowsMax && stride % 16 == 0);
    const auto row = static_cast<cuuint64_t>(stride);
    const auto hidden = static_cast<cuuint64_t>(n_rows / 2);
    const cuuint64_t sizes[] = {row, kTurn, 2, hidden / kTurn};
    const cuuint64_t strides[] = {row, hidden * row, kTurn * row};
    const cuuint32_t tile[] = {kTensorTileBytes, kTurn, 2,
                               static_cast<cuuint32_t>(tile_rows / (2 * kTurn))};
    return encode(matrix, 4, sizes, strides, tile);
}

}  // namespace etalon::backend::cuda

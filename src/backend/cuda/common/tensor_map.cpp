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

}  // namespace

CUtensorMap tensor_map(const void* matrix, int n_rows, int stride, int tile_rows) {
    ETALON_ASSERT(n_rows >= 1 && tile_rows >= 1 && tile_rows <= kTileRowsMax);
    ETALON_ASSERT(stride >= 1 && stride % 16 == 0);
    const cuuint64_t sizes[2] = {static_cast<cuuint64_t>(stride), static_cast<cuuint64_t>(n_rows)};
    const cuuint64_t row_bytes[1] = {static_cast<cuuint64_t>(stride)};
    const cuuint32_t tile[2] = {kTensorTileBytes, static_cast<cuuint32_t>(tile_rows)};
    const cuuint32_t steps[2] = {1, 1};
    CUtensorMap map{};
    const CUresult result =
        encoder()(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(matrix), sizes,
                  row_bytes, tile, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                  CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS) {
        throw Error(ExitCode::failure, fmt::format("tensor map of {} x {}: driver error {}", n_rows,
                                                   stride, static_cast<int>(result)));
    }
    return map;
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// How the copy engine of sm_90 finds the tiles of a matrix of bytes.
#pragma once

#include <cstddef>
#include <cuda.h>

namespace etalon::backend::cuda {

/// Width of a tile in bytes: that of the swizzle.
inline constexpr int kTensorTileBytes = 128;

/// Tiles of `tile_rows` (256 at most) rows and 128 columns of a matrix int8 [n_rows, stride];
/// `matrix` and `stride` are multiples of 16.
CUtensorMap tensor_map(const void* matrix, int n_rows, int stride, int tile_rows);

/// The same of a matrix whose first half is gate and whose second half is up, in the order: eight
/// rows of gate, the same eight of up, the next eight of gate, ... `n_rows` and `tile_rows` are
/// multiples of 16. For copy_gate_up_once and the like (ptx/tensor_copy.cuh).
CUtensorMap tensor_map_gate_up(const void* matrix, int n_rows, int stride, int tile_rows);

}  // namespace etalon::backend::cuda

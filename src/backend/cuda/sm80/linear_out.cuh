// SPDX-License-Identifier: Apache-2.0
// What all linear kernels do with a finished product (spec LIN-1, RES-1).
#pragma once

#include "backend/cuda/common/exact_math.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

/// From here on `out` is of the rows [begin[0], begin[1]) of y.
__device__ inline void enter_group(LinearOut& out, const std::int32_t* begin) {
    out.first = begin[0];
    out.n_tokens = begin[1] - out.first;
    out.y += static_cast<std::size_t>(out.first) * out.y_stride;
}
/// The same where the launch names a group; behind wait_for_kernels_before().
__device__ inline void enter_group(LinearOut& out) {
    if (out.group != nullptr) enter_group(out, out.group);
}

/// The matrix of slot blockIdx.y, or kNoExpert. Behind wait_for_kernels_before(), or anywhere where
/// groups are settled: these lie in the second cache, and the first may hold those of a layer
/// before until the kernel has waited.
__device__ inline std::int32_t matrix_of_slot(const E8Groups& groups) {
    const std::int32_t* active = groups.active + blockIdx.y;
    return groups.settled ? __ldcg(active) : *active;
}
__device__ inline E8View view_of(const E8Groups& groups, const E8Matrix& matrix) {
    return {matrix.q, matrix.d, groups.n_rows, groups.stride, false};
}
/// The matrix and the tokens of slot blockIdx.y; false where it has none. As matrix_of_slot().
__device__ inline bool enter_slot(const E8Groups& groups, E8View& w, LinearOut& out) {
    const std::int32_t m = matrix_of_slot(groups);
    if (m == kNoExpert) return false;
    w = view_of(groups, groups.matrices[m]);
    const std::int32_t* begin = groups.begin + m;
    const std::int32_t group[] = {groups.settled ? __ldcg(begin) : begin[0],
                                  groups.settled ? __ldcg(begin + 1) : begin[1]};
    enter_group(out, group);
    return true;
}

/// The token whose input row i of y takes.
__device__ inline std::size_t token_of(const LinearOut& out, int i) {
    const int row = out.first + i;
    return static_cast<std::size_t>(out.token_of == nullptr ? row : out.token_of[row]);
}

/// y[i, row] = product (+ bias), or added to what is there.
__device__ inline void put(const LinearOut& out, int i, int row, float product) {
    float value = product;
    if (out.bias != nullptr) value = add(value, out.bias[row]);
    float& y = out.y[static_cast<std::size_t>(i) * out.y_stride + static_cast<std::size_t>(row)];
    y = out.add ? add(y, value) : value;  // RES-1
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// E8 weights from the tiles of a file to the rows that the kernels read.
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;
constexpr int kTileRows = 16;  // src/weights/layouts.md
constexpr unsigned kGridRowsMax = 65535;

/// A copy of 4 columns a thread: word (r, l) comes from line l of tile r / 16, place r % 16.
///   in:  tiles int8 [ceil(R / 16), K / 4, 16, 4]
///   out: w int8 [R, stride], the bytes behind K are left alone
///   tile: a row a block in y, 256 words in x
///   floor: K R bytes read and written, of the read speed
///   supported: K a multiple of 4
__global__ void __launch_bounds__(kThreads)
    e8_layout_sm80(const std::uint32_t* tiles, int n_rows, int n_lines, std::uint32_t* w,
                   int stride_words) {
    const int line = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
    if (line >= n_lines) return;
    for (int row = static_cast<int>(blockIdx.y); row < n_rows; row += static_cast<int>(gridDim.y)) {
        const std::size_t tile_line =
            static_cast<std::size_t>(row / kTileRows) * n_lines + static_cast<std::size_t>(line);
        w[static_cast<std::size_t>(row) * stride_words + line] =
            tiles[tile_line * kTileRows + row % kTileRows];
    }
}

}  // namespace

void launch_e8_layout(const std::byte* tiles, int n_rows, int n_cols, std::int8_t* w, int stride,
                      Stream stream) {
    const int n_lines = n_cols / 4;
    const unsigned rows = static_cast<unsigned>(n_rows);
    const dim3 grid(static_cast<unsigned>((n_lines + kThreads - 1) / kThreads),
                    rows < kGridRowsMax ? rows : kGridRowsMax);
    e8_layout_sm80<<<grid, kThreads, 0, stream>>>(reinterpret_cast<const std::uint32_t*>(tiles),
                                                  n_rows, n_lines,
                                                  reinterpret_cast<std::uint32_t*>(w), stride / 4);
    check_launch("e8_layout");
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Weights of GGUF formats from the blocks of a file to the records that the kernels read (spec
// FMT-4 to FMT-15; cpu/linear_layout.h, which makes the same bytes).
#include <cuda_runtime.h>

#include "backend/cuda/common/error.h"
#include "backend/cuda/sm80/blocked_shape.cuh"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;
constexpr std::uint16_t kSign = 0x8000;  // of binary16

/// Scale and minimum j of Q4_K and Q5_K: 6 bits each, the upper four pairs in two pieces.
__device__ uchar2 six_bits(const std::uint8_t* p, int j) {
    if (j < 4)
        return {static_cast<unsigned char>(p[j] & 63), static_cast<unsigned char>(p[j + 4] & 63)};
    return {static_cast<unsigned char>((p[j + 4] & 15) | p[j - 4] >> 6 << 4),
            static_cast<unsigned char>(p[j + 4] >> 4 | p[j] >> 6 << 4)};
}

/// 32 elements of a row as a record has them: the fields of a stored block, j names 32 of its 256.
template <Format kFormat>
struct Fields {
    const std::uint8_t* block;
    int j;

    /// Element i with its offset (FMT-4 to FMT-15); of IQ4 the index of the table.
    __device__ unsigned code(int i) const {
        const auto nibble = [&](int from) {
            return i < 16 ? block[from + i] & 15U : block[from + i - 16] >> 4U;
        };
        const auto bit_of_word = [&](int from) {
            return static_cast<unsigned>(block[from + i / 8] >> (i % 8) & 1) << 4;
        };
        const auto bits = [&](int from, int shift, unsigned mask) {
            return block[from + i] >> shift & mask;
        };
        switch (kFormat) {
            case Format::q4_0:
            case Format::iq4_nl:
                return nibble(2);
            case Format::q4_1:
                return nibble(4);
            case Format::q5_0:
                return nibble(6) | bit_of_word(2);
            case Format::q5_1:
                return nibble(8) | bit_of_word(4);
            case Format::q8_0:
                return block[2 + i];
            case Format::q2_k:
                return bits(16 + j / 4 * 32, 2 * (j % 4), 3);
            case Format::q3_k:
                return bits(32 + j / 4 * 32, 2 * (j % 4), 3) | bits(0, j, 1) << 2;
            case Format::q4_k:
                return bits(16 + j / 2 * 32, 4 * (j % 2), 15);
            case Format::q5_k:
                return bits(48 + j / 2 * 32, 4 * (j % 2), 15) | bits(16, j, 1) << 4;
            case Format::q6_k:
                return bits(j / 4 * 64 + j % 2 * 32, j % 4 / 2 * 4, 15) |
                       bits(128 + j / 4 * 32, 2 * (j % 4), 3) << 4;
            default:  // iq4_xs
                return nibble(8 + j * 16);
        }
    }
    __device__ int sub_scale(int half) const {
        switch (kFormat) {
            case Format::q2_k:
                return block[2 * j + half] & 15;
            case Format::q3_k: {
                const std::uint8_t* p = block + 96;
                const int s = 2 * j + half;
                const int low = s < 8 ? p[s] & 15 : p[s - 8] >> 4;
                return (low | (p[8 + s % 4] >> (s / 4 * 2) & 3) << 4) - 32;
            }
            case Format::q4_k:
            case Format::q5_k:
                return six_bits(block + 4, j).x;
            case Format::q6_k:
                return static_cast<std::int8_t>(block[192 + 2 * j + half]);
            default:  // iq4_xs
                return ((block[4 + j / 2] >> (j % 2 * 4) & 15) | (half_word(2) >> (2 * j) & 3)
                                                                     << 4) -
                       32;
        }
    }
    __device__ int sub_min(int half) const {
        return kFormat == Format::q2_k ? block[2 * j + half] >> 4 : six_bits(block + 4, j).y;
    }
    __device__ std::uint16_t d() const {
        return half_word(kFormat == Format::q2_k   ? 80
                         : kFormat == Format::q3_k ? 108
                         : kFormat == Format::q6_k ? 208
                                                   : 0);
    }
    __device__ std::uint16_t m() const {
        if (kFormat == Format::q2_k) return half_word(82) ^ kSign;
        const bool negative = kFormat == Format::q4_k || kFormat == Format::q5_k;
        return half_word(2) ^ (negative ? kSign : std::uint16_t{0});
    }

  private:
    __device__ std::uint16_t half_word(int at) const {
        return static_cast<std::uint16_t>(block[at] | block[at + 1] << 8);
    }
};

/// Records of tiles of `width` rows; rows that a tile lacks are zeros.
///   in:  rows as stored, row_bytes each
///   out: records (cpu/linear_layout.h)
///   tile: a thread 32 elements of a row, rows of a tile first
///   floor: the blocks read and the records written, of the read speed
///   supported: K a multiple of the format's block; width 1, or a multiple of 4
template <Format kFormat>
__global__ void __launch_bounds__(kThreads)
    blocked_layout_sm80(const std::uint8_t* rows, std::size_t row_bytes, int block_bytes, int width,
                        int n_rows, int n_blocks, std::uint64_t n_threads, std::uint8_t* records) {
    constexpr cpu::BlockedForm kForm = cpu::blocked_form(kFormat);
    const auto thread = static_cast<std::uint64_t>(blockIdx.x) * kThreads + threadIdx.x;
    if (thread >= n_threads) return;
    const cpu::RecordLayout layout = cpu::record_layout(kForm, static_cast<std::size_t>(width));
    const int in_tile = static_cast<int>(thread % width);
    const std::uint64_t rest = thread / width;
    const int b = static_cast<int>(rest % n_blocks);
    const std::uint64_t tile = rest / n_blocks;
    const std::uint64_t row = tile * width + in_tile;
    const int record_blocks = static_cast<int>(layout.n_blocks);
    const int j = b % record_blocks;
    std::uint8_t* record =
        records + (tile * (n_blocks / record_blocks) + b / record_blocks) * layout.record_bytes;
    std::uint8_t* to = record + layout.blocks + j * layout.block_bytes;
    const bool exists = row < static_cast<std::uint64_t>(n_rows);
    const Fields<kFormat> from{
        rows + (exists ? row : 0) * row_bytes +
            static_cast<std::size_t>(b / record_blocks) * static_cast<std::size_t>(block_bytes),
        j};
    if (j == 0) {
        reinterpret_cast<std::uint16_t*>(record)[in_tile] = exists ? from.d() : 0;
        if constexpr (kForm.has_minimum)
            reinterpret_cast<std::uint16_t*>(record + layout.m)[in_tile] = exists ? from.m() : 0;
    }
    constexpr int kSubs = kForm.scales == cpu::Scales::none     ? 0
                          : kForm.scales == cpu::Scales::halves ? 2
                                                                : 1;
#pragma unroll
    for (int half = 0; half < kSubs; ++half) {
        to[half * width + in_tile] = static_cast<std::uint8_t>(exists ? from.sub_scale(half) : 0);
        if constexpr (kForm.has_minimum)
            to[layout.sub_mins + half * width + in_tile] =
                static_cast<std::uint8_t>(exists ? from.sub_min(half) : 0);
    }
    constexpr bool kFourBits = kForm.code == cpu::Code::nibble || kForm.code == cpu::Code::table;
    constexpr int kWords = kFourBits ? kBlock / 8 : kBlock / 4;
    std::uint8_t* codes = to + layout.codes + 4 * in_tile;
#pragma unroll
    for (int w = 0; w < kWords; ++w) {
        std::uint32_t word = 0;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const unsigned code = kFourBits ? from.code(8 * w + i) | from.code(8 * w + 4 + i) << 4
                                            : from.code(4 * w + i);
            word |= code << (8 * i);
        }
        if (!exists) word = 0;
        if (width > 1) {
            reinterpret_cast<std::uint32_t*>(codes)[w * width] = word;
        } else {  // codes of such records may stand at any byte
#pragma unroll
            for (int i = 0; i < 4; ++i)
                codes[4 * w + i] = static_cast<std::uint8_t>(word >> (8 * i));
        }
    }
}

template <Format kFormat>
struct Layout {
    static void run(const std::byte* rows, std::size_t row_bytes, int width, int n_rows, int n_cols,
                    std::byte* records, Stream stream) {
        ETALON_ASSERT(width == 1 || width % 4 == 0);
        const auto n_blocks = static_cast<std::uint64_t>(n_cols / kBlock);
        const auto n_tiles = (static_cast<std::uint64_t>(n_rows) + width - 1) / width;
        const std::uint64_t n_threads = n_tiles * width * n_blocks;
        const std::uint64_t n_thread_blocks = (n_threads + kThreads - 1) / kThreads;
        ETALON_ASSERT(n_thread_blocks < std::uint64_t{1} << 31);
        blocked_layout_sm80<kFormat>
            <<<static_cast<unsigned>(n_thread_blocks), kThreads, 0, stream>>>(
                reinterpret_cast<const std::uint8_t*>(rows), row_bytes,
                exact::format_info(kFormat).block_bytes, width, n_rows, static_cast<int>(n_blocks),
                n_threads, reinterpret_cast<std::uint8_t*>(records));
        check_launch("blocked_layout");
    }
};

}  // namespace

void launch_blocked_layout(Format format, const std::byte* rows, std::size_t row_bytes, int width,
                           int n_rows, int n_cols, std::byte* records, Stream stream) {
    run_of_blocked<Layout>(format)(rows, row_bytes, width, n_rows, n_cols, records, stream);
}

}  // namespace etalon::backend::cuda

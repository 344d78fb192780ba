// SPDX-License-Identifier: Apache-2.0
// E4 weights as the kernels read them (spec FMT-17). Codes are renumbered when they are loaded:
// codes 2 i and 2 i + 1 of a table row, whose values differ by at most 127, become i and i + 8, and
// i + 8 is the smaller one. So
//   value(c) = base[c % 8] + (c < 8 ? step[c % 8] : 0), step in [0, 127],
// and one instruction that chooses four bytes by four codes gives each of the two terms: for the
// second one it makes bytes of 0 where bit 3 is set, since step has no top bit.
//
// A group is 16 rows and 256 columns, four chunks of 64. Lane l of a warp has 16 columns from
// l % 4 * 16 on of rows l / 4 and l / 4 + 8 of each chunk, as ptx/mma.cuh wants them:
//   codes    [4 chunks][32 lanes] of 16 bytes: 16 nibbles of row l / 4, then of row l / 4 + 8
//   indices  [32 lanes][4 chunks] of a byte: low nibble row l / 4, high nibble row l / 4 + 8
// Example: row 9, column 100 is in chunk 1, column 36 of it, so of lane 1 * 4 + 2 = 6 the nibble 4
// of the second 8 bytes, byte 1 * 512 + 6 * 16 + 8 + 2, low nibble. Its index is the high nibble of
// byte 2048 + 6 * 4 + 1.
#pragma once

#include "backend/cuda/common/reduce.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/mma.cuh"
#include "backend/cuda/ptx/permute.cuh"
#include "backend/cuda/sm80/kernels.h"

namespace etalon::backend::cuda {

inline constexpr int kE4Chunks = 4;  // of a group
inline constexpr int kE4ChunkColumns = kE4Columns / kE4Chunks;
inline constexpr int kE4LaneColumns = 16;  // of a lane in a chunk: those of one index
static_assert(kE4ChunkColumns == kRowAlignment, "a row of codes is whole chunks");

/// The table in shared memory: eight copies, so that the lanes of a quarter of a warp meet in no
/// bank whichever rows they read.
struct E4Rows {
    uint4 rows[16][8];
};

/// Room for a table whose address is a multiple of its size: an attribute does not align shared
/// memory so far.
struct alignas(128) E4Room {
    std::int8_t bytes[2 * sizeof(E4Rows) - 128];

    __device__ E4Rows& rows() {
        const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(bytes));
        constexpr std::uint32_t kSize = sizeof(E4Rows);
        return *reinterpret_cast<E4Rows*>(bytes + (kSize - address % kSize) % kSize);
    }
};

/// What the second half of a row holds.
enum class E4Form : std::uint8_t {
    sum,  ///< step: the value is a sum
    bits  ///< base ^ (base + step): the value is base ^ this
};

/// A copy by the first 128 threads of a block, to be seen behind a barrier.
template <E4Form kForm>
__device__ void load_e4_rows(const E4Table& table, E4Rows& to) {
    const unsigned thread = threadIdx.x;
    if (thread >= 16 * 8) return;
    const unsigned row = thread / 8;
    uint4 v{table.rows[row][0], table.rows[row][1], table.rows[row][2], table.rows[row][3]};
    if constexpr (kForm == E4Form::bits) {
        v.z = v.x ^ __vadd4(v.x, v.z);
        v.w = v.y ^ __vadd4(v.y, v.w);
    }
    to.rows[row][thread % 8] = v;
}

/// What a lane has of a group.
struct E4Words {
    uint4 codes[kE4Chunks];
    std::uint32_t indices;

    /// From memory of the card; the words are read once. Not by __ldg(), as load_streaming() is
    /// not.
    __device__ void load(const std::byte* group, int lane) {
        const auto* from = reinterpret_cast<const int4*>(group) + lane;
#pragma unroll
        for (int i = 0; i < kE4Chunks; ++i) {
            const int4 v = load_streaming(from + i * kWarpLanes);
            codes[i] = {static_cast<std::uint32_t>(v.x), static_cast<std::uint32_t>(v.y),
                        static_cast<std::uint32_t>(v.z), static_cast<std::uint32_t>(v.w)};
        }
        indices = reinterpret_cast<const std::uint32_t*>(group + kE4CodeBytes)[lane];
    }
    /// From shared memory.
    __device__ void load_shared(const std::int8_t* group, int lane) {
#pragma unroll
        for (int i = 0; i < kE4Chunks; ++i)
            codes[i] = reinterpret_cast<const uint4*>(group)[i * kWarpLanes + lane];
        indices = reinterpret_cast<const std::uint32_t*>(group + kE4CodeBytes)[lane];
    }
};

/// Shifts by products with a power of two: the pipe of shifts is the one that choices of bytes keep
/// busy.
__device__ inline std::uint32_t high_half(std::uint32_t word) {
    return __dp2a_lo(word, 0x100U, 0U);
}

/// Where a lane reads the table.
class E4Lookup {
  public:
    __device__ explicit E4Lookup(const E4Rows& rows)
        : address_(static_cast<std::uint32_t>(
              __cvta_generic_to_shared(&rows.rows[0][threadIdx.x % 8]))) {}

    /// The table row of chunk `chunk` for row l / 4 (kHigh 0) or l / 4 + 8 (1).
    template <int kHigh>
    __device__ uint4 row(std::uint32_t indices, int chunk) const {
        constexpr std::uint32_t kFactor = kHigh == 0 ? 1U << kShift : 1U << (kShift - 4);
        const std::uint32_t moved = __dp4a(indices, kFactor << (8 * chunk), 0U);
        return load_shared_16(address_ | (moved & 15U << kShift));
    }

  private:
    static constexpr int kShift = 7;  // 128 bytes a row: `or` adds, since the table is aligned
    static_assert(sizeof(E4Rows) == 16 << kShift);
    std::uint32_t address_;
};

/// Both terms of 16 successive columns of a row, four columns a word.
struct E4Terms {
    int base[4];
    int step[4];

    __device__ E4Terms(const uint4& row, std::uint32_t codes_low, std::uint32_t codes_high) {
        const std::uint32_t words[2] = {codes_low, codes_high};
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const std::uint32_t low_bits = words[i] & 0x77777777U;
            base[2 * i] = static_cast<int>(permute(row.x, row.y, low_bits));
            base[2 * i + 1] = static_cast<int>(permute(row.x, row.y, high_half(low_bits)));
            step[2 * i] = static_cast<int>(permute(row.z, row.w, words[i]));
            step[2 * i + 1] = static_cast<int>(permute(row.z, row.w, high_half(words[i])));
        }
    }
    /// The weights, from a row of E4Form::bits.
    __device__ int4 values() const {
        return {base[0] ^ step[0], base[1] ^ step[1], base[2] ^ step[2], base[3] ^ step[3]};
    }
};

/// A lane's two rows of a chunk.
struct E4Pair {
    E4Terms low;
    E4Terms high;

    __device__ E4Pair(const E4Words& words, const E4Lookup& table, int chunk)
        : low(table.row<0>(words.indices, chunk), words.codes[chunk].x, words.codes[chunk].y),
          high(table.row<1>(words.indices, chunk), words.codes[chunk].z, words.codes[chunk].w) {}
};

/// Sums of 16 rows with 8 tokens, from rows of E4Form::sum: the two terms meet the tokens one after
/// the other, which takes fewer instructions than to add them first. Four sums, so that a product
/// does not wait for the one before it.
struct E4Sums {
    int base[2][4];
    int step[2][4];

    __device__ void add(const E4Words& words, const E4Lookup& table, int chunk, const int4& x) {
        const E4Pair pair(words, table, chunk);
        multiply(base, pair.low.base, pair.high.base, x);
        multiply(step, pair.low.step, pair.high.step, x);
    }
    __device__ void total(int (&sums)[4]) const {
#pragma unroll
        for (int i = 0; i < 4; ++i)
            sums[i] = base[0][i] + base[1][i] + step[0][i] + step[1][i];
    }

  private:
    __device__ static void multiply(int (&sums)[2][4], const int (&low)[4], const int (&high)[4],
                                    const int4& x) {
        mma_i8_16x8x32(sums[0], low[0], high[0], low[1], high[1], x.x, x.y);
        mma_i8_16x8x32(sums[1], low[2], high[2], low[3], high[3], x.z, x.w);
    }
};

}  // namespace etalon::backend::cuda

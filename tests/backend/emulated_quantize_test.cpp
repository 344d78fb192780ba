// SPDX-License-Identifier: Apache-2.0
// Rows of floats to blocks of 32 by the kernel of a card, run on the processor
// (emulated/README.md), against src/exact (NRM-1 to NRM-3, SUM-1, SWI-1, QNT-3, ERR-1).
#include <bit>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

#include "backend/emulated/intrinsics.h"

// What the threads of a block share, of one block after the other.
#undef __shared__
#define __shared__ static
#include "backend/cuda/sm80/quantize_blocks.cu"
#include "backend/tensors.h"
#include "exact/norm.h"
#include "exact/quantize.h"
#include "exact/swiglu.h"

namespace etalon::backend::cuda {
namespace {

using conformance::Fill;
using conformance::Random;

constexpr float kEps = 1e-5F;

struct Row {
    std::vector<std::int8_t> codes;
    std::vector<float> scales;
    std::vector<std::int16_t> half_sums;
    bool failed = false;

    explicit Row(std::size_t k) : codes(k), scales(k / kBlock), half_sums(k / kHalf) {}
    bool operator==(const Row&) const = default;
};

/// As src/exact has it.
Row expected(Source source, std::span<const float> v, std::span<const float> w, std::size_t k) {
    Row row(k);
    std::vector<float> z(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(k));
    float scale = 1.0F;
    if (source == Source::norm) {
        scale = exact::norm_scale(v, kEps);
        exact::norm_weigh(v, w, z);
    }
    if (source == Source::swiglu) {
        for (std::size_t i = 0; i < k; ++i)
            z[i] = exact::swiglu(v[i], v[k + i]);
    }
    row.failed = !exact::quantize_blocks(z, row.codes, row.scales) ||
                 (source == Source::norm && !exact::norm_scale_is_valid(scale));
    if (row.failed) {
        Row failed(k);
        failed.failed = true;
        return failed;
    }
    for (float& of_block : row.scales)
        of_block *= scale;  // NRM-3
    for (std::size_t i = 0; i < k; ++i)
        row.half_sums[i / kHalf] =
            static_cast<std::int16_t>(row.half_sums[i / kHalf] + row.codes[i]);
    return row;
}

/// Rows v [T, K] (swiglu: [T, 2 K]), n_cluster thread blocks each.
template <Source kSource>
void compare(std::span<const float> v, std::span<const float> w, int n_tokens, int k,
             int n_cluster) {
    SCOPED_TRACE(
        fmt::format("source {}, K {}, {} blocks", static_cast<int>(kSource), k, n_cluster));
    const auto columns = static_cast<std::size_t>(k);
    const auto tokens = static_cast<std::size_t>(n_tokens);
    const std::size_t stride = (columns + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
    std::vector<std::int8_t> codes(tokens * stride, 1);
    std::vector<float> scales(tokens * columns / kBlock, 1.0F);
    std::vector<std::int16_t> half_sums(tokens * columns / kHalf, 1);
    std::vector<std::uint8_t> failed(tokens);
    ActivationsView x;
    x.block_q = codes.data();
    x.block_scales = scales.data();
    x.half_sums = half_sums.data();
    x.n_cols = k;
    x.stride = static_cast<int>(stride);
    launch_cluster("quantize_blocks", quantize_blocks_sm80<kSource>,
                   dim3(static_cast<unsigned>(n_tokens * n_cluster)), kThreads<kSource>, n_cluster,
                   0, nullptr, RowInput{v.data(), w.data(), kEps}, x, failed.data(), n_cluster);
    const std::size_t length = v.size() / tokens;
    for (std::size_t t = 0; t < tokens; ++t) {
        Row row(columns);
        const auto copy = [&](const auto& from, std::size_t first, auto& to) {
            std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(first), to.size(), to.begin());
        };
        copy(codes, t * stride, row.codes);
        copy(scales, t * row.scales.size(), row.scales);
        copy(half_sums, t * row.half_sums.size(), row.half_sums);
        row.failed = failed[t] != 0;
        EXPECT_EQ(row, expected(kSource, v.subspan(t * length, length), w, columns))
            << "token " << t;
    }
}

void compare_sources(std::span<const float> v, std::span<const float> w, int n_tokens, int k,
                     int n_cluster) {
    const std::size_t n = v.size() / 2;  // a row of SwiGLU has two
    compare<Source::norm>(v.first(n), w, n_tokens, k, n_cluster);
    compare<Source::plain>(v.first(n), w, n_tokens, k, n_cluster);
    compare<Source::swiglu>(v, w, n_tokens, k, n_cluster);
}

TEST(EmulatedQuantize, QNT_3_every_block_of_a_row) {
    constexpr int kTokens = 2;
    Random random(1);
    for (const Fill fill : {Fill::usual, Fill::bits}) {
        for (const int k : {32, 96, 128, 1056, 4096}) {
            const auto v = conformance::random_floats(random, 2 * kTokens, k, fill);
            const auto w = conformance::random_floats(random, 1, k, Fill::usual);
            // Blocks of a cluster that do not meet know nothing of a token that fails.
            for (const int n_cluster : {1, 3})
                if (n_cluster == 1 || fill == Fill::usual)
                    compare_sources(v, w, kTokens, k, n_cluster);
        }
    }
}

TEST(EmulatedQuantize, ERR_1_a_token_that_fails_reads_as_zero) {
    constexpr int kTokens = 3;
    constexpr int kColumns = 1056;
    Random random(2);
    const auto w = conformance::random_floats(random, 1, kColumns, Fill::usual);
    for (const float bad :
         {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        for (const std::size_t at : {std::size_t{0}, std::size_t{kColumns - 1}}) {
            auto v = conformance::random_floats(random, 2 * kTokens, kColumns, Fill::usual);
            v[kColumns + at] = bad;
            compare_sources(v, w, kTokens, kColumns, 1);
        }
    }
}

}  // namespace
}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// The linear kernels of blocked formats, run on the processor (emulated/README.md), against
// src/exact (LIN-4 to LIN-6): every format, rings that come round, one token in several parts.
#include <bit>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <vector>

#include "backend/cuda/sm80/linear_blocked.cu"
#include "backend/cuda/sm80/linear_blocked_one.cu"
#include "backend/emulated/intrinsics.h"
#include "backend/tensors.h"
#include "exact/linear.h"
#include "exact/quantize.h"

namespace etalon::backend::cuda {
namespace {

/// The kernels' shared memory.
alignas(1024) int4 bytes[kSharedBytesMax / sizeof(int4)];

using conformance::Fill;
using conformance::OwnedTensor;
using conformance::Random;
using conformance::Weights;

/// Memory that begins as that of a card does.
template <typename Value>
class Aligned {
  public:
    explicit Aligned(std::size_t n) : values_(n + kAlignment / sizeof(Value)) {}
    Value* data() {
        const auto address = reinterpret_cast<std::uintptr_t>(values_.data());
        return values_.data() + (kAlignment - address % kAlignment) % kAlignment / sizeof(Value);
    }

  private:
    static constexpr std::size_t kAlignment = 256;
    std::vector<Value> values_;
};

using Launch = void (*)(const BlockedView&, const ActivationsView&, const LinearOut&);

/// y = w x by the kernel and by src/exact.
void compare(Format format, int n_rows, int n_tokens, int n_blocks, Launch launch) {
    SCOPED_TRACE(fmt::format("{}, {} blocks", exact::format_info(format).name, n_blocks));
    const int k = n_blocks * kBlock;
    const auto columns = static_cast<std::size_t>(k);
    const auto rows = static_cast<std::size_t>(n_rows);
    const auto blocks = static_cast<std::size_t>(n_blocks);
    Random random(static_cast<std::uint64_t>(k));
    const auto owned = conformance::random_matrix(random, format, n_rows, k, Weights::usual);
    const std::span<const std::byte> stored = owned->tensor.data;
    const std::size_t row_bytes = stored.size() / rows;
    const std::size_t tile_bytes =
        cpu::repacked_bytes(format, kBlockedWidth, kBlockedWidth, columns);
    Aligned<std::byte> records((rows + kBlockedWidth - 1) / kBlockedWidth * tile_bytes);
    for (std::size_t first = 0; first < rows; first += kBlockedWidth) {
        const std::size_t n = std::min<std::size_t>(kBlockedWidth, rows - first);
        cpu::repack_tile(format, kBlockedWidth, 0, columns,
                         stored.subspan(first * row_bytes, n * row_bytes), row_bytes,
                         records.data() + first / kBlockedWidth * tile_bytes);
    }
    const auto tokens = static_cast<std::size_t>(n_tokens);
    const std::size_t stride = (columns + kRowAlignment - 1) / kRowAlignment * kRowAlignment;
    Aligned<std::int8_t> q(tokens * stride);
    std::vector<float> scales(tokens * blocks);
    std::vector<std::int16_t> half_sums(2 * tokens * blocks);
    const auto v = conformance::random_floats(random, n_tokens, k, Fill::usual);
    for (std::size_t t = 0; t < tokens; ++t) {
        const std::span row(q.data() + t * stride, columns);
        exact::quantize_blocks(std::span(v).subspan(t * columns, columns), row,
                               std::span(scales).subspan(t * blocks, blocks));
        for (std::size_t i = 0; i < columns; ++i)
            half_sums[2 * t * blocks + i / 16] =
                static_cast<std::int16_t>(half_sums[2 * t * blocks + i / 16] + row[i]);
    }
    ActivationsView x;
    x.block_q = q.data();
    x.block_scales = scales.data();
    x.half_sums = half_sums.data();
    x.n_cols = k;
    x.stride = static_cast<int>(stride);
    std::vector<float> y(tokens * rows);
    LinearOut out;
    out.y = y.data();
    out.y_stride = rows;
    out.n_tokens = n_tokens;
    launch({format, records.data(), n_rows, k}, x, out);
    for (std::size_t t = 0; t < tokens; ++t) {
        for (std::size_t row = 0; row < rows; ++row) {
            const float expected =
                exact::linear_blocked(format, stored.subspan(row * row_bytes, row_bytes),
                                      std::span<const std::int8_t>(q.data() + t * stride, columns),
                                      std::span(scales).subspan(t * blocks, blocks));
            ASSERT_EQ(std::bit_cast<std::uint32_t>(y[t * rows + row]),
                      std::bit_cast<std::uint32_t>(expected))
                << "token " << t << ", row " << row;
        }
    }
}

/// Every blocked format; copies are early for one and late for the next.
void compare_formats(int n_rows, int n_tokens, const std::vector<int>& n_blocks_of_32,
                     const std::vector<int>& n_blocks_of_256, Launch launch) {
    for (const Format format : conformance::linear_formats()) {
        const exact::FormatInfo& info = exact::format_info(format);
        if (info.kind != exact::FormatKind::blocked) continue;
        for (const int n : info.block_elements == kBlock ? n_blocks_of_32 : n_blocks_of_256) {
            emulated::copies_are_late = !emulated::copies_are_late;
            compare(format, n_rows, n_tokens, n, launch);
        }
    }
}

template <typename Tile>
void launch_tile(const BlockedView& w, const ActivationsView& x, const LinearOut& out) {
    run_of_blocked<By<Tile>::template Launcher>(w.format)(w, x, out, nullptr);
}
template <int kWarps>
void launch_one(const BlockedView& w, const ActivationsView& x, const LinearOut& out) {
    run_of_blocked<OneBy<kWarps>::template Launcher>(w.format)(w, x, out, nullptr);
}

TEST(Emulated, LIN_5_one_token_in_one_part_and_in_several) {
    compare_formats(35, 1, {1, 33, 65, 129}, {8, 40, 72, 136}, launch_one<kUsualWarps>);
    compare_formats(35, 1, {31, 64, 65, 193}, {64, 72, 200}, launch_one<kManyWarps>);
}

TEST(Emulated, LIN_5_few_tokens_through_a_ring) {
    compare_formats(35, 5, {53}, {64}, launch_tile<Of8>);
    compare_formats(35, 13, {53}, {64}, launch_tile<Of16>);
    compare_formats(33, 7, {1, 33}, {8, 40}, launch_tile<Warp8>);
    compare_formats(35, 13, {33}, {40}, launch_tile<Warp16>);
}

TEST(Emulated, LIN_5_many_tokens_through_a_ring) {
    compare_formats(33, 37, {25}, {32}, launch_tile<Of64>);
    for (const Format format : {Format::q8_0, Format::q4_k})
        compare(format, 130, 67, format == Format::q8_0 ? 11 : 16, launch_tile<Wide>);
}

}  // namespace
}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Linear layers and logits of every format (LIN-1 to LIN-7, RES-1, FMT-1 to FMT-17).
#include <array>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"

namespace etalon::backend::conformance {
namespace {

using exact::Format;
using exact::FormatKind;

/// Floats behind y: a kernel must not touch them.
constexpr std::size_t kGuard = 16;
/// Tokens of the activations that the batch does not use.
constexpr int kSpareTokens = 2;

struct Part {
    Format format;
    int n_rows;
};

struct Shape {
    std::vector<Part> parts;
    int n_tokens = 1;
    int n_cols = 0;
    Weights weights = Weights::usual;
    Fill fill = Fill::usual;

    int n_rows() const {
        int n = 0;
        for (const Part& part : parts)
            n += part.n_rows;
        return n;
    }
};

/// The matrix and its input on one backend; the tensors live as long.
struct Loaded {
    std::vector<std::unique_ptr<OwnedTensor>> tensors;
    std::unique_ptr<LinearWeights> plain;
    std::unique_ptr<LinearWeights> biased;
    std::unique_ptr<Activations> x;
};

Loaded load(Backend& backend, Random& random, const Shape& shape, Outcome& outcome) {
    Loaded loaded;
    std::vector<const weights::Tensor*> parts;
    for (const Part& part : shape.parts) {
        loaded.tensors.push_back(
            random_matrix(random, part.format, part.n_rows, shape.n_cols, shape.weights));
        parts.push_back(&loaded.tensors.back()->tensor);
    }
    const auto bias = random_floats(random, 1, shape.n_rows(), Fill::usual);
    loaded.plain = backend.load_linear(parts, {});
    loaded.biased = backend.load_linear(parts, bias);
    outcome.add("forms", std::uint64_t{loaded.plain->forms_needed});
    outcome.add("rows", static_cast<std::uint64_t>(loaded.plain->n_rows));
    outcome.add("columns", static_cast<std::uint64_t>(loaded.plain->n_cols));
    // Activations are shared by layers that read other forms (LIN-1).
    const unsigned spare = shape.n_cols % exact::kBlock == 0 && random.below(2) == 0
                               ? unsigned{kRowInt8 | kBlockInt8 | kFloating}
                               : 0U;
    loaded.x = backend.make_activations(shape.n_tokens + kSpareTokens, shape.n_cols,
                                        loaded.plain->forms_needed | spare);
    const auto v = random_floats(random, shape.n_tokens, shape.n_cols, shape.fill);
    OwnedBatch batch(shape.n_tokens);
    backend.quantize(batch.view(), *uploaded(backend, v), *loaded.x);
    return loaded;
}

/// y = W x, y += W x, y += W x + bias, y = W x + bias, and rows of logits.
void run_linear_case(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    const Loaded loaded = load(backend, random, shape, outcome);
    const auto n = static_cast<std::size_t>(shape.n_tokens * shape.n_rows());
    const auto before = random_floats(random, 1, static_cast<int>(n + kGuard), Fill::usual);
    const auto y = uploaded(backend, before);
    OwnedBatch batch(shape.n_tokens);
    const auto step = [&](const char* name, const LinearWeights& w, Store store) {
        backend.linear(batch.view(), *loaded.x, w, store, *y);
        outcome.add(name, std::span<const float>(downloaded(backend, *y)));
    };
    step("y = W x", *loaded.plain, Store::replace);
    step("y + W x", *loaded.plain, Store::add);              // RES-1
    step("y + W x + bias", *loaded.biased, Store::add);      // LIN-1, RES-1
    step("y = W x + bias", *loaded.biased, Store::replace);  // LIN-1
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
}

std::string shape_name(const Shape& shape) {
    std::string name = fmt::format("t{}_n{}_k{}", shape.n_tokens, shape.n_rows(), shape.n_cols);
    if (shape.weights == Weights::extreme) name += "_extreme";
    if (shape.fill != Fill::usual) name += fmt::format("_{}", fill_name(shape.fill));
    return name;
}

std::string stack_name(const Shape& shape) {
    std::string name;
    for (const Part& part : shape.parts) {
        if (!name.empty()) name += '+';
        name += fmt::format("{}x{}", exact::format_info(part.format).name, part.n_rows);
    }
    return name;
}

void add_linear(const Shape& shape) {
    const std::string format = shape.parts.size() == 1
                                   ? std::string(exact::format_info(shape.parts[0].format).name)
                                   : stack_name(shape);
    add_test("Linear", fmt::format("{}/{}", format, shape_name(shape)),
             [shape](Backend& backend, Random& random, Outcome& outcome) {
                 run_linear_case(shape, backend, random, outcome);
             });
}

/// Lengths of K: the shortest, both sides of vectors and of the 256 lanes, some usual ones.
std::vector<int> columns_of(Format format) {
    const exact::FormatInfo& info = exact::format_info(format);
    if (format == Format::e4) return {32, 64, 96, 128, 160, 224, 256, 288, 576, 1024, 1056};
    if (info.kind == FormatKind::row_scaled)
        return {4, 8, 12, 28, 32, 60, 64, 68, 124, 128, 132, 252, 256, 260, 576, 1020};
    if (info.kind == FormatKind::floating)
        return {1, 7, 8, 15, 16, 17, 31, 33, 64, 127, 255, 256, 257, 511, 513, 1000};
    if (info.block_elements == 32) return {32, 64, 96, 128, 160, 224, 256, 288, 544, 1056};
    return {256, 512, 768, 1280};
}

int middle_columns(Format format) {
    return exact::format_info(format).block_elements == 256 ? 512 : 352;
}

constexpr std::array kTokenCounts = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
                                     12, 13, 14, 15, 16, 17, 31, 32, 33, 64, 65};
constexpr std::array kRowCounts = {1, 2, 3, 4, 7, 8, 15, 16, 17, 31, 32, 33, 47, 48, 49, 64, 130};

/// Tails of each dimension on its own, then extremes.
void add_format(Format format) {
    const int k = middle_columns(format);
    for (const int n_tokens : kTokenCounts)
        add_linear({{{format, 35}}, n_tokens, k});
    for (const int n_rows : kRowCounts) {
        add_linear({{{format, n_rows}}, 3, k});
        add_linear({{{format, n_rows}}, 19, k});
    }
    for (const int n_cols : columns_of(format)) {
        add_linear({{{format, 18}}, 1, n_cols});
        add_linear({{{format, 18}}, 5, n_cols});
        add_linear({{{format, 33}}, 18, n_cols});
    }
    for (const Fill fill : kFills) {
        for (const Weights weights : {Weights::usual, Weights::extreme}) {
            add_linear({{{format, 21}}, 2, k, weights, fill});
            add_linear({{{format, 37}}, 34, k, weights, fill});
        }
    }
}

void add_stacks() {
    const std::vector<std::vector<Part>> stacks{
        {{Format::e8, 48}, {Format::e8, 16}, {Format::e8, 16}},
        {{Format::e8, 33}, {Format::e8, 7}, {Format::e8, 1}, {Format::e8, 20}},
        {{Format::e4, 48}, {Format::e4, 16}, {Format::e4, 16}},
        {{Format::e4, 33}, {Format::e4, 7}, {Format::e4, 1}, {Format::e4, 20}},
        {{Format::e8, 17}, {Format::e4, 33}, {Format::e4, 2}, {Format::e8, 16}},
        {{Format::e4, 18}, {Format::q8_0, 16}, {Format::f16, 5}},
        {{Format::q4_k, 33}, {Format::q6_k, 18}},
        {{Format::q4_k, 16}, {Format::q4_k, 5}, {Format::q6_k, 5}},
        {{Format::q4_k, 64}, {Format::q4_k, 32}, {Format::q4_k, 7}, {Format::q6_k, 32}},
        {{Format::q5_0, 17}, {Format::q8_0, 17}, {Format::q4_1, 3}},
        {{Format::q2_k, 9}, {Format::q3_k, 20}, {Format::f32, 2}},
        {{Format::f16, 19}, {Format::bf16, 13}},
        {{Format::q8_0, 16}, {Format::f16, 5}},
        {{Format::iq4_nl, 8}, {Format::iq4_xs, 8}, {Format::q5_k, 8}, {Format::q5_1, 8}},
    };
    for (const auto& parts : stacks) {
        for (const int n_tokens : {1, 2, 7, 16, 33})
            add_linear({parts, n_tokens, 512});
        add_linear({parts, 6, 256, Weights::extreme, Fill::bits});
        add_linear({parts, 6, 256, Weights::usual, Fill::bad});
    }
}

/// Long rows: sums near the ends of int32 (LIN-2), long chains (LIN-5).
void add_long_rows() {
    add_linear({{{Format::e8, 17}}, 3, 131072, Weights::extreme, Fill::same});
    add_linear({{{Format::e8, 3}}, 17, 16384, Weights::extreme, Fill::same});
    add_linear({{{Format::e4, 17}}, 3, 131072, Weights::extreme, Fill::same});
    add_linear({{{Format::e4, 3}}, 17, 16384, Weights::extreme, Fill::same});
    add_linear({{{Format::e4, 19}}, 1, 28672});
    add_linear({{{Format::e4, 40}}, 24, 14336});
    for (const Format format : {Format::q4_0, Format::q8_0, Format::q4_k, Format::q6_k})
        add_linear({{{format, 5}}, 3, 14336, Weights::usual, Fill::usual});
    add_linear({{{Format::bf16, 5}}, 3, 14336, Weights::usual, Fill::usual});
}

/// More tokens than fit a tile of 128, on both sides of tiles of tokens, rows and K.
void add_tiles() {
    for (const int n_tokens : {63, 66, 127, 128, 129, 255, 256, 257, 300})
        add_linear({{{Format::e8, 300}}, n_tokens, 260});
    for (const int n_rows : {1, 2, 3, 127, 255, 256, 257, 513})
        add_linear({{{Format::e8, n_rows}}, 130, 192});
    for (const int n_cols : {4, 64, 124, 128, 132, 512, 516, 1152, 4096})
        add_linear({{{Format::e8, 40}}, 140, n_cols});
    add_linear({{{Format::e8, 270}}, 200, 1024, Weights::extreme, Fill::same});
    add_linear({{{Format::e8, 259}}, 131, 640, Weights::extreme, Fill::bits});
    add_linear({{{Format::e8, 64}}, 131, 640, Weights::usual, Fill::bad});
    add_linear({{{Format::e8, 33}, {Format::q8_0, 18}, {Format::e8, 300}}, 140, 512});
    add_linear({{{Format::e8, 3}}, 66, 131072, Weights::extreme, Fill::same});
    for (const int n_tokens : {66, 129, 300})
        add_linear({{{Format::e4, 300}}, n_tokens, 288});
    add_linear({{{Format::e4, 270}}, 200, 1024, Weights::extreme, Fill::same});
    add_linear({{{Format::e4, 64}}, 131, 640, Weights::usual, Fill::bad});
    add_linear({{{Format::e4, 33}, {Format::q8_0, 18}, {Format::e8, 300}}, 140, 512});
}

/// Rows so long that several blocks take a part of K each, and so many tiles of rows that none do.
void add_parts() {
    for (const int n_tokens : {9, 16, 17, 31, 33, 64, 65, 128, 129, 256})
        add_linear({{{Format::e8, 150}}, n_tokens, 1156});
    for (const int n_cols : {256, 260, 384, 512, 516})
        add_linear({{{Format::e8, 129}}, 11, n_cols});
    add_linear({{{Format::e8, 131}}, 10, 8324, Weights::extreme, Fill::same});
    add_linear({{{Format::e8, 128}}, 70, 9000});
    for (const int n_tokens : {9, 33})
        add_linear({{{Format::e8, 6500}}, n_tokens, 516});
    for (const int n_tokens : {129, 200, 256})  // on cards halves of the tokens
        add_linear({{{Format::e8, 300}}, n_tokens, 516});
    add_linear({{{Format::e8, 17004}}, 12, 132});
    add_linear({{{Format::e8, 17004}}, 130, 132});
    add_linear({{{Format::e8, 64}}, 20, 1152, Weights::usual, Fill::bad});
    add_linear({{{Format::e8, 33}, {Format::q8_0, 18}, {Format::e8, 300}}, 40, 1024});
}

/// A shape that only cards have a kernel of its own for: y += W x + bias.
void add_card_linear(Format format, int n_rows, int n_tokens, int n_cols) {
    const Shape shape{{{format, n_rows}}, n_tokens, n_cols};
    add_card_test(
        "Linear", fmt::format("{}/{}", exact::format_info(format).name, shape_name(shape)),
        [shape](Backend& backend, Random& random, Outcome& outcome) {
            const Loaded loaded = load(backend, random, shape, outcome);
            const auto before = random_floats(random, shape.n_tokens, shape.n_rows(), Fill::usual);
            const auto y = uploaded(backend, before);
            OwnedBatch batch(shape.n_tokens);
            backend.linear(batch.view(), *loaded.x, *loaded.biased, Store::add, *y);
            outcome.add("y", std::span<const float>(downloaded(backend, *y)));
        });
}

/// So large that pairs of blocks take them: tiles cut into four pieces of K and into two, and whole
/// ones, of which some pairs have two; or that clusters do, with parts of K. Only cards have
/// kernels of their own for them.
void add_large() {
    constexpr std::array<std::array<int, 3>, 6> kShapes{{{4072, 131, 8260},
                                                         {8008, 129, 4300},
                                                         {17000, 130, 1980},
                                                         {6500, 129, 516},
                                                         {6500, 200, 516},
                                                         {6500, 256, 516}}};
    for (const auto& [n_rows, n_tokens, n_cols] : kShapes)
        add_card_linear(Format::e8, n_rows, n_tokens, n_cols);
}

/// Blocked formats as cards cut them up to 192 multiprocessors: tiles of 128 rows and tokens, so
/// many rows that each has four tiles, one token in parts of 32 or of 64 blocks, and rings that
/// come round.
void add_blocked() {
    for (const Format format : linear_formats()) {
        const exact::FormatInfo& info = exact::format_info(format);
        if (info.kind != FormatKind::blocked) continue;
        const bool of_32 = info.block_elements == exact::kBlock;
        add_card_linear(format, 1800, 1795, of_32 ? 288 : 512);
        for (const int n_tokens : {7, 13})
            add_card_linear(format, 24600, n_tokens, of_32 ? 1056 : 1280);
        for (const int n_tokens : {5, 13})
            add_card_linear(format, 35, n_tokens, of_32 ? 1696 : 2048);
        const std::vector<int> n_blocks = of_32 ? std::vector{31, 32, 33, 64, 65, 129, 193}
                                                : std::vector{32, 40, 64, 72, 136, 200};
        for (const int n : n_blocks)
            add_card_linear(format, 35, 1, n * exact::kBlock);
        add_card_linear(format, 24600, 1, (of_32 ? 65 : 72) * exact::kBlock);
        for (const int n_cols : {28672, 28928})  // the most for one token, and more
            add_card_linear(format, 35, 1, n_cols);
    }
    add_card_linear(Format::q8_0, 70000, 1, 1024);  // more than is loaded at once
}

/// Logits of some tokens: none, one, all, backwards, one twice.
void run_logits_case(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    const Loaded loaded = load(backend, random, shape, outcome);
    OwnedBatch batch(shape.n_tokens);
    std::vector<std::int32_t> all;
    for (int t = 0; t < shape.n_tokens; ++t)
        all.push_back(t);
    const std::vector<std::int32_t> last{shape.n_tokens - 1};
    const std::vector<std::int32_t> backwards(all.rbegin(), all.rend());
    std::vector<std::int32_t> some;
    for (const std::int32_t t : all) {
        if (random.below(3) == 0) some.push_back(t);
    }
    const std::vector<std::int32_t> twice{0, shape.n_tokens - 1, 0};
    for (const auto& rows : {all, last, backwards, some, twice, std::vector<std::int32_t>{}}) {
        const auto n = static_cast<int>(rows.size()) * shape.n_rows() + static_cast<int>(kGuard);
        const auto y = uploaded(backend, random_floats(random, 1, n, Fill::usual));
        backend.logits(batch.view(), *loaded.x, *loaded.biased, rows, *y);
        outcome.add("logits", std::span<const float>(downloaded(backend, *y)));
        backend.logits(batch.view(), *loaded.x, *loaded.plain, rows, *y);
        outcome.add("logits without bias", std::span<const float>(downloaded(backend, *y)));
    }
}

void add_logits() {
    for (const Format format : linear_formats()) {
        for (const int n_tokens : {1, 2, 9, 34, 100}) {
            if (n_tokens > 34 && form_of(format) != kRowInt8) continue;
            const Shape shape{{{format, 50}}, n_tokens, 256};
            add_test("Logits",
                     fmt::format("{}/{}", exact::format_info(format).name, shape_name(shape)),
                     [shape](Backend& backend, Random& random, Outcome& outcome) {
                         run_logits_case(shape, backend, random, outcome);
                     });
        }
    }
}

/// Where layouts.md says that row r, column k stands: each column met alone, by the reference.
TEST(E4Layout, FMT_17_rows_and_columns_stand_where_the_page_says) {
    constexpr int kRows = 22;
    constexpr int kColumns = 96;
    Random random(17);
    const auto owned = random_matrix(random, Format::e4, kRows, kColumns, Weights::usual);
    const weights::Tensor* tensor = &owned->tensor;
    const auto backend = make_exact_backend(1);
    const auto w = backend->load_linear({&tensor, 1}, {});
    std::vector<float> v(std::size_t{kColumns} * kColumns);
    for (std::size_t k = 0; k < kColumns; ++k)
        v[k * kColumns + k] = 127.0F;  // q = 127, a = 1 (QNT-2)
    const auto x = backend->make_activations(kColumns, kColumns, kRowInt8);
    OwnedBatch batch(kColumns);
    backend->quantize(batch.view(), *uploaded(*backend, v), *x);
    const auto y = backend->make_floats(std::size_t{kColumns} * kRows);
    backend->linear(batch.view(), *x, *w, Store::replace, *y);
    const auto nibble = [](std::byte byte, bool high) {
        return std::to_integer<std::size_t>(high ? byte >> 4 : byte & std::byte{15});
    };
    for (std::size_t k = 0; k < kColumns; ++k) {
        for (std::size_t r = 0; r < kRows; ++r) {
            const std::size_t line = r / 4 * (kColumns / 32) + k / 32;
            const bool high = k % 32 >= 16;
            const std::size_t index = nibble(tensor->indices[line * 4 + r % 4], high);
            const std::size_t code = nibble(tensor->data[line * 64 + r % 4 * 16 + k % 16], high);
            const auto q = static_cast<float>(exact::kE4Table[index][code]);
            EXPECT_EQ(y->data()[k * kRows + r], q * 127.0F * owned->scales[r]) << r << ", " << k;
        }
    }
}

const bool kRegistered = [] {
    for (const Format format : linear_formats())  // FMT-1 to FMT-17, LIN-1 to LIN-7
        add_format(format);
    add_stacks();
    add_long_rows();
    add_tiles();
    add_parts();
    add_large();
    add_blocked();
    add_logits();  // LIN-3, LIN-5, FWD-4
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance

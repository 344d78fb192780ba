// SPDX-License-Identifier: Apache-2.0
// Operations that a backend may take together: norm and linear, quantise and linear, feed-forward,
// whole layers (FWD-2, FWD-3, ERR-1, ERR-2, LIN-3, RES-1). The reference does them one by one.
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"
#include "exact/rope.h"
#include "exact/rotate.h"

namespace etalon::backend::conformance {
namespace {

using exact::Format;

constexpr float kEps = 1e-5F;

/// Matrices and their tensors, which live as long.
class Matrices {
  public:
    Matrices(Backend& backend, Random& random, bool biased)
        : backend_(&backend), random_(&random), biased_(biased) {}

    /// `first_scale`: of the first row of each part, where it is not zero.
    std::unique_ptr<LinearWeights> load(std::span<const int> parts, int n_cols, Format format,
                                        float first_scale = 0.0F) {
        std::vector<const weights::Tensor*> tensors;
        int n_rows = 0;
        for (const int n : parts) {
            tensors_.push_back(random_matrix(*random_, format, n, n_cols, Weights::model));
            if (first_scale != 0.0F) tensors_.back()->scales.front() = first_scale;
            tensors.push_back(&tensors_.back()->tensor);
            n_rows += n;
        }
        const auto bias = random_floats(*random_, 1, n_rows, Fill::usual);
        return backend_->load_linear(
            tensors, biased_ ? std::span<const float>(bias) : std::span<const float>());
    }
    std::unique_ptr<FloatBuffer> vector(int n) {
        return uploaded(*backend_, random_floats(*random_, 1, n, Fill::usual));
    }

  private:
    Backend* backend_;
    Random* random_;
    bool biased_;
    std::vector<std::unique_ptr<OwnedTensor>> tensors_;
};

exact::Rotation rotation_of(Format format, int n) {
    return form_of(format) == kRowInt8 ? exact::rotation_for(n) : exact::Rotation{n, 1, n, false};
}

/// --- parts of a layer ---

struct Shape {
    int n_tokens = 1;
    int dim = 0;
    int rows = 0;  // or hidden_dim
    Format format = Format::e8;
    Fill fill = Fill::usual;
    bool biased = false;
    bool overflows = false;  // SwiGLU of those tokens whose first product with gate is positive

    std::string name() const {
        return fmt::format("{}_t{}_k{}_n{}_{}{}{}", exact::format_info(format).name, n_tokens, dim,
                           rows, fill_name(fill), biased ? "_biased" : "",
                           overflows ? "_overflows" : "");
    }
};

std::unique_ptr<Activations> activations(Backend& backend, int n_tokens, int n, Format format) {
    return backend.make_activations(n_tokens + 1, n, form_of(format));
}

void add_floats(const char* name, Backend& backend, const FloatBuffer& floats, Outcome& outcome) {
    outcome.add(name, std::span<const float>(downloaded(backend, floats)));
}

void run_norm_linear(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    Matrices matrices(backend, random, shape.biased);
    const auto w = matrices.load(std::array{shape.rows, 8}, shape.dim, shape.format);
    const auto norm = matrices.vector(shape.dim);
    const auto h = uploaded(backend, random_floats(random, shape.n_tokens, shape.dim, shape.fill));
    const auto y = uploaded(backend, random_floats(random, shape.n_tokens, w->n_rows, Fill::usual));
    const auto x = activations(backend, shape.n_tokens, shape.dim, shape.format);
    OwnedBatch batch(shape.n_tokens);
    backend.norm_linear(batch.view(), *h, *norm, kEps, rotation_of(shape.format, shape.dim), *x, *w,
                        *y);
    add_floats("y", backend, *y, outcome);
    outcome.add("x", backend.read(*x, shape.n_tokens));
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
}

void run_quantize_linear(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    Matrices matrices(backend, random, shape.biased);
    const auto w = matrices.load(std::array{shape.rows}, shape.dim, shape.format);
    const auto v = uploaded(backend, random_floats(random, shape.n_tokens, shape.dim, shape.fill));
    const auto h = uploaded(backend, random_floats(random, shape.n_tokens, w->n_rows, Fill::usual));
    const auto x = activations(backend, shape.n_tokens, shape.dim, shape.format);
    OwnedBatch batch(shape.n_tokens);
    backend.quantize_linear(batch.view(), *v, *x, *w, *h);
    add_floats("h", backend, *h, outcome);
    outcome.add("x", backend.read(*x, shape.n_tokens));
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
}

void run_feed_forward(const Shape& shape, Backend& backend, Random& random, Outcome& outcome) {
    Matrices matrices(backend, random, shape.biased);
    const int hidden = shape.rows;
    const auto gate_up = matrices.load(std::array{hidden, hidden}, shape.dim, shape.format,
                                       shape.overflows ? 1e18F : 0.0F);
    const auto down = matrices.load(std::array{shape.dim}, hidden, shape.format);
    const auto norm = matrices.vector(shape.dim);
    const auto h = uploaded(backend, random_floats(random, shape.n_tokens, shape.dim, shape.fill));
    const auto x_dim = activations(backend, shape.n_tokens, shape.dim, shape.format);
    const auto x_hidden = activations(backend, shape.n_tokens, hidden, shape.format);
    const auto room = backend.make_floats(static_cast<std::size_t>(shape.n_tokens * 2 * hidden));
    OwnedBatch batch(shape.n_tokens);
    const FeedForward layer{norm.get(),
                            kEps,
                            rotation_of(shape.format, shape.dim),
                            gate_up.get(),
                            rotation_of(shape.format, hidden),
                            down.get(),
                            x_dim.get(),
                            room.get(),
                            x_hidden.get()};
    for (int pass = 0; pass < 2; ++pass) {  // rooms are used again
        backend.feed_forward(batch.view(), layer, *h);
        add_floats("h", backend, *h, outcome);
    }
    outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
    if (shape.overflows) {
        EXPECT_NE(std::count(batch.failed.begin(), batch.failed.end(), 1), 0);
    }
}

using Run = void (*)(const Shape&, Backend&, Random&, Outcome&);

void add_shape(const char* subject, Run run, const Shape& shape) {
    add_test(subject, shape.name(),
             [run, shape](Backend& backend, Random& random, Outcome& outcome) {
                 run(shape, backend, random, outcome);
             });
}

void add_operation(const char* subject, Run run) {
    for (const Format format : {Format::e8, Format::e4}) {
        for (const int n_tokens : {1, 2, 3, 4, 5, 6, 7, 8, 9, 33, 130, 257})
            add_shape(subject, run, {n_tokens, 1024, 192, format});
        for (const int dim : {64, 576, 1000, 2048, 4096, 5120}) {
            if (dim % exact::format_info(format).block_elements != 0) continue;
            for (const int n_tokens : {1, 2, 7})
                add_shape(subject, run, {n_tokens, dim, 64, format, Fill::usual, dim == 2048});
        }
        for (const Fill fill : kFills) {
            add_shape(subject, run, {2, 1024, 96, format, fill});
            add_shape(subject, run, {9, 2048, 32, format, fill});
        }
    }
    for (const Format format : {Format::q8_0, Format::bf16})
        add_shape(subject, run, {2, 256, 64, format});
}

/// --- whole layers ---

struct Stack {
    int n_layers = 1;
    int dim = 1024;
    int hidden = 2048;
    int n_heads = 4;
    int n_kv_heads = 2;
    int head_dim = 128;
    Format format = Format::e8;
    exact::RopePairing pairing = exact::RopePairing::interleaved;
    bool biased = false;
    Fill fill = Fill::usual;

    std::string name() const {
        return fmt::format("{}_l{}_k{}_n{}_h{}_kv{}_d{}_{}{}{}", exact::format_info(format).name,
                           n_layers, dim, hidden, n_heads, n_kv_heads, head_dim, fill_name(fill),
                           pairing == exact::RopePairing::halves ? "_halves" : "",
                           biased ? "_biased" : "");
    }
};

/// Tokens of one sequence in a pass, and one of each of some others.
struct Part {
    int first;
    int n;
    int other_first = -1;  // of other sequences
    int window = 0;        // positions behind it were never written
    int n_others = 1;
};

constexpr int kPages = 40;
constexpr int kOthersMax = 15;

OwnedBatch batch_of(const Part& part) {
    const auto table = [](int first, int n, int step) {
        std::vector<std::int32_t> pages(static_cast<std::size_t>((first + n + 63) / 64));
        for (std::size_t i = 0; i < pages.size(); ++i)
            pages[i] = static_cast<std::int32_t>((i * 7 + static_cast<std::size_t>(step)) % kPages);
        return pages;
    };
    OwnedBatch batch;
    batch.add_sequence(part.first, part.n, table(part.first, part.n, 0));
    // The first pages of other, short sequences: none of those above.
    for (int i = 0; i < part.n_others && part.other_first >= 0; ++i)
        batch.add_sequence(part.other_first, 1, {kPages + i});
    return batch;
}

/// Weights of the layers and what they own.
struct OwnedLayers {
    std::vector<std::unique_ptr<LinearWeights>> linears;
    std::vector<std::unique_ptr<FloatBuffer>> norms;
    std::vector<Layer> all;

    OwnedLayers(const Stack& shape, Matrices& matrices) {
        const int heads = shape.n_heads * shape.head_dim;
        const int kv_dim = shape.n_kv_heads * shape.head_dim;
        const auto linear = [&](std::span<const int> n, int k) {
            linears.push_back(matrices.load(n, k, shape.format));
            return linears.back().get();
        };
        const auto norm = [&] {
            norms.push_back(matrices.vector(shape.dim));
            return norms.back().get();
        };
        for (int i = 0; i < shape.n_layers; ++i) {
            Layer layer;
            layer.attn_norm = norm();
            layer.qkv = linear(std::array{heads, kv_dim, kv_dim}, shape.dim);
            layer.attn_output = linear(std::array{shape.dim}, heads);
            layer.ffn_norm = norm();
            layer.gate_up = linear(std::array{shape.hidden, shape.hidden}, shape.dim);
            layer.down = linear(std::array{shape.dim}, shape.hidden);
            all.push_back(layer);
        }
    }
};

/// What the batch wrote to the cache.
void add_written(const Stack& shape, const OwnedBatch& batch, Backend& backend, const KvCache& kv,
                 Outcome& outcome) {
    for (std::size_t t = 0; t < batch.positions.size(); ++t) {
        const int position = batch.positions[t];
        const auto& table = batch.page_tables[static_cast<std::size_t>(batch.sequence_of[t])];
        const int page = table[static_cast<std::size_t>(position / 64)];
        for (int i = 0; i < shape.n_layers * shape.n_kv_heads; ++i) {
            const int layer = i / shape.n_kv_heads;
            const int head = i % shape.n_kv_heads;
            outcome.add("key", backend.read_key(kv, layer, page, position % 64, head));
            outcome.add("value", backend.read_value(kv, layer, page, position % 64, head));
        }
    }
}

void run_layers(const Stack& shape, std::span<const Part> parts, Backend& backend, Random& random,
                Outcome& outcome) {
    Matrices matrices(backend, random, shape.biased);
    const OwnedLayers owned(shape, matrices);
    const int heads = shape.n_heads * shape.head_dim;
    int n_max = 1;
    for (const Part& part : parts)
        n_max = std::max(n_max, part.n + part.n_others);
    exact::RopeConfig config;
    config.pairing = shape.pairing;
    config.n_dims = shape.head_dim;
    const RopeTables rope{shape.pairing, exact::rope_turns(config), 1.0F};
    const auto floats = [&](int n) {
        return backend.make_floats(static_cast<std::size_t>(n_max) * static_cast<std::size_t>(n));
    };
    const auto x_dim = activations(backend, n_max, shape.dim, shape.format);
    const auto x_heads = activations(backend, n_max, heads, shape.format);
    const auto x_hidden = activations(backend, n_max, shape.hidden, shape.format);
    const auto queries = backend.make_queries(n_max, shape.n_heads, shape.head_dim);
    const auto qkv = floats(heads + 2 * shape.n_kv_heads * shape.head_dim);
    const auto o = floats(heads);
    const auto gate_up = floats(2 * shape.hidden);
    Layers layers{owned.all,
                  kEps,
                  rotation_of(shape.format, shape.dim),
                  rotation_of(shape.format, shape.hidden),
                  &rope,
                  0,
                  x_dim.get(),
                  x_heads.get(),
                  x_hidden.get(),
                  queries.get(),
                  qkv.get(),
                  o.get(),
                  gate_up.get()};
    const auto kv = backend.make_kv_cache(
        {shape.n_layers, shape.n_kv_heads, shape.head_dim, kPages + kOthersMax});
    for (const Part& part : parts) {
        OwnedBatch batch = batch_of(part);
        const auto n_tokens = static_cast<int>(batch.tokens.size());
        const auto h = uploaded(backend, random_floats(random, n_tokens, shape.dim, shape.fill));
        layers.sliding_window = part.window;
        backend.layers(batch.view(), layers, *kv, *h);
        add_floats("h", backend, *h, outcome);
        outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
        add_written(shape, batch, backend, *kv, outcome);
    }
}

void add_stack(const Stack& shape, const std::vector<Part>& parts, const char* more = "") {
    add_test("Layers", shape.name() + more,
             [shape, parts](Backend& backend, Random& random, Outcome& outcome) {
                 run_layers(shape, parts, backend, random, outcome);
             });
}

/// The first token, the second, some at once, further ones alone, by twos, in two sequences.
const std::vector<Part> kUsual{{0, 1},  {1, 1},     {2, 9},     {11, 1},
                               {12, 2}, {14, 1, 0}, {15, 3, 1}, {18, 1}};

void add_layers(Format format) {
    const auto add = [&](Stack shape, const std::vector<Part>& parts, const char* more = "") {
        shape.format = format;
        add_stack(shape, parts, more);
    };
    add({.n_layers = 3}, {{0, 2}, {2, 1}, {3, 1}});
    add({}, kUsual);
    add({.biased = true}, kUsual);
    add({.pairing = exact::RopePairing::halves}, {{0, 2}, {2, 1}, {3, 1}});
    // Runs of single tokens, within a page and across two, and several sequences.
    const std::vector<Part> runs{{0, 7},           {7, 7, 0, 0, kOthersMax},
                                 {14, 46},         {60, 7, 1, 0, kOthersMax},
                                 {67, 1, 2, 0, 9}, {68, 5, 3, 9, 4}};
    add({.n_layers = 2}, runs, "_runs");
    add({.n_heads = 8, .n_kv_heads = 8, .pairing = exact::RopePairing::halves}, runs, "_runs");
    add({.n_heads = 8, .n_kv_heads = 1, .fill = Fill::bad}, runs, "_runs");
    add({.dim = 2048, .hidden = 5120, .n_heads = 16, .n_kv_heads = 4}, {{0, 2}, {2, 1}, {3, 1}});
    add({.dim = 1024, .hidden = 14336, .n_heads = 8, .n_kv_heads = 1}, {{0, 2}, {2, 1}, {3, 1}});
    add({.dim = 4096, .hidden = 4096, .n_heads = 8, .n_kv_heads = 8}, {{0, 2}, {2, 1}, {3, 1}});
    add({.dim = 5120, .hidden = 2048}, {{0, 2}, {2, 1}, {3, 1}});
    for (const Fill fill : kFills)
        add({.fill = fill}, {{0, 1}, {1, 2}, {3, 1}, {4, 1, 0}, {5, 1}});
    // On both sides of a page, with and without a window that starts inside of one, and of a chunk.
    add({}, {{0, 62}, {62, 1}, {63, 1}, {64, 1}, {65, 1, -1, 40}, {66, 66}, {132, 1}, {133, 2}},
        "_pages");
    add({},
        {{1000, 20, -1, 1},
         {1020, 1, -1, 21},
         {1021, 2, -1, 22},
         {1023, 1, -1, 24},
         {1024, 1, -1, 25},
         {1025, 1, -1, 2},
         {1026, 1, -1, 27}},
        "_chunks");
    // More query heads of a KV head than a unit attends for: 6 and 6, 5 and 4; several turns of
    // pages.
    add({.n_layers = 2, .hidden = 1024, .n_heads = 12, .n_kv_heads = 1}, kUsual);
    add({.hidden = 1024, .n_heads = 36, .n_kv_heads = 4}, {{0, 2}, {2, 1}, {3, 1}});
    add({.hidden = 1024, .n_heads = 12, .n_kv_heads = 1}, {{0, 330}, {330, 1}}, "_pages");
    add({.hidden = 1024, .n_heads = 12, .n_kv_heads = 1, .fill = Fill::bad},
        {{0, 1}, {1, 2}, {3, 1}, {4, 1}});
    // What no kernel takes together.
    add({.dim = 576, .hidden = 1536, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64}, kUsual);
    add({.dim = 1024, .hidden = 2048, .n_heads = 2, .n_kv_heads = 1, .head_dim = 64}, kUsual);
}

/// Shapes for which a card has other arrays: many columns of h, of the heads and of down in blocks
/// of each size, many rows. To the CPU they are as any other.
void add_wide_layers(Format format) {
    for (Stack shape : {Stack{.dim = 12288, .hidden = 1024, .n_heads = 4, .n_kv_heads = 1},
                        Stack{.dim = 9216, .hidden = 1024},
                        Stack{.dim = 1024, .hidden = 2048, .n_heads = 96, .n_kv_heads = 8},
                        Stack{.dim = 1024, .hidden = 17408}, Stack{.dim = 1024, .hidden = 18432},
                        Stack{.dim = 1024, .hidden = 28672, .n_heads = 12, .n_kv_heads = 1}}) {
        shape.format = format;
        add_card_test("Layers", shape.name() + "_wide",
                      [shape](Backend& backend, Random& random, Outcome& outcome) {
                          constexpr std::array kParts = {Part{0, 2}, Part{2, 1}, Part{3, 1}};
                          run_layers(shape, kParts, backend, random, outcome);
                      });
    }
}

void add_layers_of_blocks() {
    add_stack({.dim = 256, .hidden = 512, .n_heads = 2, .n_kv_heads = 2, .format = Format::q8_0},
              kUsual);
}

/// Shapes for which only cards have kernels of their own.
void add_large_feed_forward() {
    const auto add = [](const Shape& shape) {
        add_card_test("FeedForward", shape.name(),
                      [shape](Backend& backend, Random& random, Outcome& outcome) {
                          run_feed_forward(shape, backend, random, outcome);
                      });
    };
    // Many rows with butterflies over 2,048 elements, also up to three for each that runs at once.
    for (const bool overflows : {false, true}) {
        for (const auto& [n_tokens, hidden] : {std::pair{513, 2048}, {1030, 6144}, {800, 14336}})
            add({.n_tokens = n_tokens,
                 .dim = 64,
                 .rows = hidden,
                 .fill = overflows ? Fill::usual : Fill::bad,
                 .overflows = overflows});
    }
    for (const Format format : {Format::e8, Format::e4}) {  // halves of the tokens, and all of them
        add({130, 1024, 2048, format, Fill::usual, true});
        add({200, 1024, 4096, format});
    }
    // Gate and up so large that pairs of blocks take them, two tiles each.
    add({131, 1408, 12288, Format::e8, Fill::usual, true});
    add({256, 1408, 12288, Format::e4});
}

/// E4 of 9 to 256 tokens, which a card multiplies as it unpacks: every size of a tile of tokens,
/// rows that end within a tile, K in one, two and four parts (by the number of rows), rings that
/// are passed through several times.
void add_some_tokens_of_e4() {
    const auto add = [](const char* subject, Run run, const Shape& shape) {
        add_card_test(subject, shape.name(),
                      [run, shape](Backend& backend, Random& random, Outcome& outcome) {
                          run(shape, backend, random, outcome);
                      });
    };
    for (const int n_tokens : {9, 10, 16, 17, 31, 32, 48, 64, 65, 100, 128, 129, 200, 256, 257}) {
        const bool biased = n_tokens % 3 == 0;
        add("NormLinear", run_norm_linear, {n_tokens, 4096, 240, Format::e4, Fill::usual, biased});
        add("QuantizeLinear", run_quantize_linear,
            {n_tokens, 2560, 330, Format::e4, Fill::usual, biased});
        add("FeedForward", run_feed_forward,
            {n_tokens, 4096, 1024, Format::e4, Fill::usual, biased});
    }
    for (const Fill fill : kFills) {
        add("NormLinear", run_norm_linear, {24, 12288, 128, Format::e4, fill});
        add("QuantizeLinear", run_quantize_linear, {70, 512, 16, Format::e4, fill});
        add("FeedForward", run_feed_forward, {40, 4096, 2048, Format::e4, fill});
    }
    for (const auto& [n_tokens, rows] : {std::pair{129, 4352},
                                         {200, 4352},
                                         {256, 4352},
                                         {256, 8704},
                                         {16, 7168},
                                         {32, 7168},
                                         {64, 7168},
                                         {100, 7168},
                                         {16, 17024},
                                         {32, 17024},
                                         {64, 17024}})
        add("NormLinear", run_norm_linear, {n_tokens, 4096, rows, Format::e4});
    for (const int n_tokens : {16, 32, 64})
        add("QuantizeLinear", run_quantize_linear, {n_tokens, 14336, 512, Format::e4});
    for (const auto& [n_tokens, hidden] : {std::pair{256, 4096}, {16, 3072}, {64, 3072}})
        add("FeedForward", run_feed_forward, {n_tokens, 4096, hidden, Format::e4});
    add("FeedForward", run_feed_forward, {33, 4096, 20480, Format::e4});
    // Rows whose norm no kernel gives in the order of the products.
    add("NormLinear", run_norm_linear, {24, 8192, 128, Format::e4});
    add("FeedForward", run_feed_forward, {24, 2048, 6144, Format::e4});
    add("FeedForward", run_feed_forward, {64, 1024, 14336, Format::e4});
}

const bool kRegistered = [] {
    add_operation("NormLinear", run_norm_linear);
    add_operation("QuantizeLinear", run_quantize_linear);
    add_operation("FeedForward", run_feed_forward);
    for (const Format format : {Format::e8, Format::e4}) {
        add_shape("FeedForward", run_feed_forward, {2, 512, 14336, format});
        add_layers(format);
        add_wide_layers(format);
    }
    for (const int n_tokens : {65, 130, 300})  // E4 that becomes E8, with SwiGLU in the product
        add_shape("FeedForward", run_feed_forward, {n_tokens, 1024, 2048, Format::e4});
    add_large_feed_forward();
    add_some_tokens_of_e4();
    add_layers_of_blocks();
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance

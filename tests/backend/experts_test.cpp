// SPDX-License-Identifier: Apache-2.0
// Feed-forward of layers with experts (FWD-5, MOE-1 to MOE-4, LIN-7, ERR-1, RES-1). The reference
// goes token by token, the backends by experts.
#include <algorithm>
#include <array>
#include <cstring>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <numeric>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"
#include "exact/rotate.h"

namespace etalon::backend::conformance {
namespace {

using exact::Format;

enum class Router : std::uint8_t {
    usual,
    ties,  ///< experts of equal logits
    huge,  ///< logits that overflow, for some tokens
};

struct ExpertsShape {
    int n_tokens = 1;
    int n_experts = 4;
    int n_used = 2;
    int dim = 256;
    int hidden = 256;
    std::vector<Format> formats{Format::e8};  ///< of gate, up and down, in turn over the experts
    Format router_format = Format::f32;
    Router router = Router::usual;
    Fill fill = Fill::usual;
    bool overflows = false;  ///< the logits of the router do, so that tokens fail

    std::string name() const {
        std::string out;
        for (const Format format : formats)
            out += fmt::format("{}{}", out.empty() ? "" : "+", exact::format_info(format).name);
        out += fmt::format("_t{}_e{}of{}_k{}_n{}_{}", n_tokens, n_used, n_experts, dim, hidden,
                           exact::format_info(router_format).name);
        if (router == Router::ties) out += "_ties";
        if (router == Router::huge) out += "_huge";
        if (fill != Fill::usual) out += fmt::format("_{}", fill_name(fill));
        return out;
    }
    bool rotated() const { return formats.front() == Format::e8 || formats.front() == Format::e4; }
    exact::Rotation rotation_of(int n) const {
        return rotated() ? exact::rotation_for(n) : exact::Rotation{n, 1, n, false};
    }
};

/// The layer on one backend; the tensors live as long.
class OwnedExperts {
  public:
    OwnedExperts(Backend& backend, Random& random, const ExpertsShape& shape)
        : backend_(&backend), random_(&random) {
        ExpertMatrices matrices;
        matrices.router = load_router(shape);
        std::size_t next = 0;
        const auto format = [&] { return shape.formats[next++ % shape.formats.size()]; };
        for (int e = 0; e < shape.n_experts; ++e) {
            const weights::Tensor* gate = add(format(), shape.hidden, shape.dim);
            const weights::Tensor* up = add(format(), shape.hidden, shape.dim);
            matrices.gate_up.push_back(backend.load_linear(std::vector{gate, up}, {}));
            const weights::Tensor* down = add(format(), shape.dim, shape.hidden);
            matrices.down.push_back(backend.load_linear(std::vector{down}, {}));
            dim_forms_ |= matrices.gate_up.back()->forms_needed;
            hidden_forms_ |= matrices.down.back()->forms_needed;
        }
        experts_ = backend.make_experts(std::move(matrices), shape.n_used);
        const int n_max = shape.n_tokens + 1;
        const int pairs_max = n_max * shape.n_used;
        norm_ = uploaded(backend, random_floats(random, 1, shape.dim, Fill::usual));
        x_dim_ = backend.make_activations(n_max, shape.dim, dim_forms_ | kFloating);
        x_hidden_ = backend.make_activations(pairs_max, shape.hidden, hidden_forms_);
        logits_ = floats(n_max, shape.n_experts);
        gate_up_ = floats(pairs_max, 2 * shape.hidden);
        outputs_ = floats(pairs_max, shape.dim);
        view = {norm_.get(),
                1e-5F,
                shape.rotation_of(shape.dim),
                shape.rotation_of(shape.hidden),
                experts_.get(),
                x_dim_.get(),
                logits_.get(),
                gate_up_.get(),
                x_hidden_.get(),
                outputs_.get()};
    }

    ExpertsLayer view;

  private:
    const weights::Tensor* add(Format format, int n_rows, int n_cols) {
        tensors_.push_back(random_matrix(*random_, format, n_rows, n_cols, Weights::model));
        return &tensors_.back()->tensor;
    }
    std::unique_ptr<FloatBuffer> floats(int n_rows, int n_cols) {
        return backend_->make_floats(static_cast<std::size_t>(n_rows) *
                                     static_cast<std::size_t>(n_cols));
    }
    std::unique_ptr<LinearWeights> load_router(const ExpertsShape& shape) {
        const Weights kind = shape.router == Router::huge ? Weights::extreme : Weights::model;
        tensors_.push_back(
            random_matrix(*random_, shape.router_format, shape.n_experts, shape.dim, kind));
        OwnedTensor& owned = *tensors_.back();
        const std::size_t row =
            owned.tensor.data.size() / static_cast<std::size_t>(shape.n_experts);
        std::byte* rows = owned.data.data() + (owned.data.size() - owned.tensor.data.size());
        for (int e = 1; shape.router == Router::ties && e < shape.n_experts; ++e) {
            if (random_->below(2) == 0) continue;
            const auto from = static_cast<std::size_t>(random_->below(e));
            std::memcpy(rows + static_cast<std::size_t>(e) * row, rows + from * row, row);
        }
        return backend_->load_linear(std::vector<const weights::Tensor*>{&owned.tensor}, {});
    }

    Backend* backend_;
    Random* random_;
    unsigned dim_forms_ = 0;
    unsigned hidden_forms_ = 0;
    std::vector<std::unique_ptr<OwnedTensor>> tensors_;
    std::unique_ptr<Experts> experts_;
    std::unique_ptr<FloatBuffer> norm_;
    std::unique_ptr<Activations> x_dim_;
    std::unique_ptr<Activations> x_hidden_;
    std::unique_ptr<FloatBuffer> logits_;
    std::unique_ptr<FloatBuffer> gate_up_;
    std::unique_ptr<FloatBuffer> outputs_;
};

/// All tokens, the first half of them, and all again: rooms hold what was there before.
void run_experts(const ExpertsShape& shape, Backend& backend, Random& random, Outcome& outcome) {
    const OwnedExperts layer(backend, random, shape);
    const auto h =
        uploaded(backend, random_floats(random, shape.n_tokens + 1, shape.dim, shape.fill));
    for (const int n_tokens : {shape.n_tokens, (shape.n_tokens + 1) / 2, shape.n_tokens}) {
        OwnedBatch batch(n_tokens);
        backend.begin(batch.view());
        backend.experts_feed_forward(batch.view(), layer.view, *h);
        backend.finish(batch.view());
        outcome.add("h", std::span<const float>(downloaded(backend, *h)));
        outcome.add("failed", std::span<const std::uint8_t>(batch.failed));
        if (shape.overflows) {
            EXPECT_NE(std::count(batch.failed.begin(), batch.failed.end(), 1), 0);
        }
    }
}

void add_experts(const ExpertsShape& shape, bool cards_only = false) {
    const auto add = cards_only ? add_card_test : add_test;
    add("Experts", shape.name(), [shape](Backend& backend, Random& random, Outcome& outcome) {
        run_experts(shape, backend, random, outcome);
    });
}

const std::vector<std::vector<Format>> kFormats{
    {Format::e8},
    {Format::e4},
    {Format::q4_0},
    {Format::q8_0},
    {Format::q4_k},
    {Format::bf16},
    {Format::q4_k, Format::q4_k, Format::q6_k, Format::q5_0, Format::q8_0, Format::f16},
};

void add_routers() {
    constexpr std::array<std::array<int, 3>, 3> kHuge{{{1, 6, 1}, {1, 9, 5}, {2, 6, 4}}};  // MOE-4
    for (const auto& [n_tokens, n_experts, n_used] : kHuge)
        add_experts({.n_tokens = n_tokens,
                     .n_experts = n_experts,
                     .n_used = n_used,
                     .router = Router::huge,
                     .overflows = true});
    for (const int n_tokens : {1, 3})  // read in two steps
        add_experts({.n_tokens = n_tokens, .n_experts = 9, .dim = 5120, .hidden = 64});
}

void add_all() {
    for (const auto& formats : kFormats) {
        for (const int n_tokens : {1, 2, 3, 4, 5, 8, 9, 16, 17, 33, 40}) {
            ExpertsShape shape;
            shape.formats = formats;
            shape.n_tokens = n_tokens;
            add_experts(shape);
        }
        for (const Router router : {Router::ties, Router::huge})
            add_experts({.n_tokens = 23,
                         .n_experts = 6,
                         .n_used = 3,
                         .formats = formats,
                         .router = router});
    }
    for (const int n_used : {1, 2, 3, 4, 5, 6, 7, 8}) {  // MOE-1
        for (const int n_tokens : {1, 2, 7, 31})
            add_experts({.n_tokens = n_tokens,
                         .n_experts = 8,
                         .n_used = n_used,
                         .dim = 128,
                         .hidden = 64,
                         .router = n_tokens == 7 ? Router::ties : Router::usual});
    }
    for (const int n_experts : {1, 2, 9, 16, 33, 64, 256})
        for (const int n_tokens : {1, 11})
            add_experts({.n_tokens = n_tokens,
                         .n_experts = n_experts,
                         .n_used = std::min(n_experts, 6),
                         .dim = 64,
                         .hidden = 32,
                         .router = Router::ties});
    for (const Format format : {Format::f16, Format::bf16})
        add_experts({.n_tokens = 5, .n_experts = 5, .router_format = format});
    for (const Fill fill : kFills) {  // MOE-4, ERR-1
        add_experts({.n_tokens = 20, .n_experts = 6, .fill = fill});
        add_experts({.n_tokens = 6, .n_experts = 6, .fill = fill});
        add_experts({.n_tokens = 20, .formats = {Format::q8_0}, .fill = fill});
    }
    // Groups on both sides of a card's tile of 128 tokens, rows on both sides of one of 256.
    for (const int n_tokens : {17, 18, 64, 129, 300}) {
        const bool large = n_tokens > 64;
        add_experts({.n_tokens = n_tokens, .n_experts = 3, .dim = 512, .hidden = 1024}, large);
        add_experts({.n_tokens = n_tokens, .n_experts = 9, .n_used = 3, .dim = 260, .hidden = 2048},
                    large);
    }
    add_experts({.n_tokens = 290, .n_experts = 2, .n_used = 1, .dim = 128, .hidden = 4096});
    add_experts({.n_tokens = 40, .n_experts = 4, .n_used = 4, .dim = 128, .hidden = 5120});
    for (const Fill fill : kFills)
        add_experts({.n_tokens = 30, .n_experts = 6, .dim = 256, .hidden = 1024, .fill = fill});
    // Rows that are no whole tiles, and usual widths.
    add_experts({.n_tokens = 3, .dim = 100, .hidden = 52});
    add_experts({.n_tokens = 40, .dim = 100, .hidden = 52});
    for (const int n_tokens : {1, 2, 8, 20})
        add_experts({.n_tokens = n_tokens, .dim = 1024, .hidden = 3584});
    add_experts({.n_tokens = 300, .n_experts = 8, .dim = 512, .hidden = 256});
    for (const int n_tokens : {1, 20, 70, 200})
        add_experts({.n_tokens = n_tokens,
                     .n_experts = 5,
                     .n_used = 3,
                     .dim = 96,
                     .hidden = 160,
                     .formats = {Format::e4},
                     .router = Router::ties});
    for (const Fill fill : {Fill::usual, Fill::bad})
        for (const int n_tokens : {1, 20})
            add_experts({.n_tokens = n_tokens, .dim = 4096, .hidden = 256, .fill = fill});
    add_experts(
        {.n_tokens = 130, .n_experts = 8, .dim = 256, .hidden = 256, .formats = {Format::q4_k}});
}

const bool kRegistered = [] {
    add_routers();
    add_all();
    return true;
}();

}  // namespace
}  // namespace etalon::backend::conformance

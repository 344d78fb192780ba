// SPDX-License-Identifier: Apache-2.0
// When a kernel for whole layers is trusted, and which shapes it takes: neither needs a card.
#include <gtest/gtest.h>

#include "backend/cuda/decode_host.h"

namespace etalon::backend::cuda {
namespace {

LayersView shape_of(int n_layers, int dim) {
    LayersView view;
    view.n_layers = n_layers;
    view.dim = dim;
    return view;
}

TEST(LayersTrials, a_shape_is_trusted_after_equal_passes_only) {
    LayersTrials trials(true);
    const LayersView one = shape_of(2, 1024);
    const LayersView other = shape_of(3, 1024);
    for (int i = 0; i < 4; ++i) {
        EXPECT_EQ(trials.state(one), LayersTrials::State::trying) << i;
        trials.add(one, true);
    }
    EXPECT_EQ(trials.state(one), LayersTrials::State::trusted);
    EXPECT_EQ(trials.state(other), LayersTrials::State::trying);
    EXPECT_EQ(trials.n_trials(), 4);
    LayersView e4 = one;
    e4.format = exact::Format::e4;
    EXPECT_EQ(trials.state(e4), LayersTrials::State::trying);
}

TEST(LayersTrials, one_that_differs_refuses_for_good) {
    LayersTrials trials(true);
    const LayersView view = shape_of(2, 1024);
    trials.add(view, true);
    trials.add(view, false);
    for (int i = 0; i < 8; ++i)
        trials.add(view, true);
    EXPECT_EQ(trials.state(view), LayersTrials::State::refused);
}

TEST(LayersTrials, without_trials_every_shape_is_trusted) {
    EXPECT_EQ(LayersTrials(false).state(shape_of(2, 1024)), LayersTrials::State::trusted);
}

LayersView model_of(exact::Format format, int dim, int hidden_dim, int n_heads, int n_kv_heads) {
    LayersView view;
    view.format = format;
    view.n_layers = 2;
    view.dim = dim;
    view.hidden_dim = hidden_dim;
    view.n_heads = n_heads;
    view.dim_block = dim & -dim;
    view.hidden_block = hidden_dim & -hidden_dim;
    view.rope.n_pairs = kLayersHeadDim / 2;
    view.rope.block = kLayersHeadDim;
    view.kv.head_dim = kLayersHeadDim;
    view.kv.n_kv_heads = n_kv_heads;
    return view;
}

TEST(LayersShapes, small_and_large_models_are_taken) {
    for (const exact::Format format : {exact::Format::e8, exact::Format::e4}) {
        const LayersView small = model_of(format, 4096, 14336, 32, 8);
        const LayersView large = model_of(format, 12288, 28672, 96, 8);
        EXPECT_TRUE(decode_layers_supports(small, 1, 132));
        EXPECT_TRUE(decode_layers_supports(large, 1, 132));
        EXPECT_TRUE(decode_layers_supports(model_of(format, 1024, 1024, 36, 4), 1, 132));
        EXPECT_FALSE(decode_layers_supports(small, 2, 132)) << "tokens";
        EXPECT_FALSE(decode_layers_supports(large, 1, 100)) << "rows of a block";
    }
}

TEST(LayersShapes, what_has_no_room_is_refused) {
    const auto takes = [](int dim, int hidden_dim, int n_heads, int n_kv_heads) {
        return decode_layers_supports(
            model_of(exact::Format::e8, dim, hidden_dim, n_heads, n_kv_heads), 1, 132);
    };
    EXPECT_FALSE(takes(13312, 28672, 96, 8)) << "columns of h";
    EXPECT_FALSE(takes(12288, 28672, 100, 4)) << "columns of the heads";
    EXPECT_FALSE(takes(4096, 33792, 32, 8)) << "columns of down";
    EXPECT_FALSE(takes(8192, 28672, 64, 8)) << "a butterfly over 8,192";
    EXPECT_FALSE(takes(4096, 14336, 32, 12)) << "KV heads of unequal groups";
}

}  // namespace
}  // namespace etalon::backend::cuda

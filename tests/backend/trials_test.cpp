// SPDX-License-Identifier: Apache-2.0
// When a kernel for whole layers is trusted: it needs no card to say so.
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

}  // namespace
}  // namespace etalon::backend::cuda

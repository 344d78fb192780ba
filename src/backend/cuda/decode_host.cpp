// SPDX-License-Identifier: Apache-2.0
// The layers of a pass of few tokens as one kernel: whether it takes them.
#include "backend/cuda/decode_host.h"

#include <algorithm>

#include "backend/cuda/linear.h"
#include "base/error.h"
#include "exact/attention.h"

namespace etalon::backend::cuda {

namespace {

/// Passes that a shape is tried with.
constexpr int kTrials = 4;

/// The matrix as the kernel reads it; false where it has other formats or another shape.
bool view_matrix(const LinearWeights& base, exact::Format format, int n_rows, int n_cols,
                 MatrixView& view) {
    const auto& w = static_cast<const CudaLinear&>(base);
    if (w.n_rows != n_rows || w.n_cols != n_cols || n_cols % kRowAlignment != 0) return false;
    if (w.parts.size() != 1 || w.parts.front().format != format) return false;
    const LinearPart& part = w.parts.front();
    view = {part.data.data(), part.d.data(), w.bias.empty() ? nullptr : w.bias.data()};
    return true;
}

}  // namespace

LayersTrials::State LayersTrials::state(const LayersView& view) const {
    if (!wanted_) return State::trusted;
    for (const Known& known : known_) {
        if (!(known.shape == Shape(view))) continue;
        if (known.refused) return State::refused;
        return known.n_equal < kTrials ? State::trying : State::trusted;
    }
    return State::trying;
}

void LayersTrials::add(const LayersView& view, bool equal) {
    ++n_trials_;
    const Shape shape(view);
    auto known = std::find_if(known_.begin(), known_.end(),
                              [&](const Known& one) { return one.shape == shape; });
    if (known == known_.end()) known = known_.insert(known, {shape});
    known->n_equal += equal ? 1 : 0;
    known->refused = known->refused || !equal;
}

std::optional<LayersView> layers_view(const Layers& layers, const RopeView& rope,
                                      const CudaKvCache& kv, int n_tokens, int n_chunks,
                                      const Device& device) {
    const auto n_layers = static_cast<int>(layers.all.size());
    if (!device.has_sm90() || n_tokens > kLayersTokensMax || n_chunks > kLayersChunksMax ||
        n_layers < 1 || n_layers > kLayersMax || layers.dim_rotation.dct ||
        layers.hidden_rotation.dct)
        return std::nullopt;
    if (layers.all.front().experts != nullptr) return std::nullopt;
    LayersView view;
    const auto& parts = static_cast<const CudaLinear&>(*layers.all.front().down).parts;
    if (!parts.empty() && parts.front().format == exact::Format::e4) {
        view.format = exact::Format::e4;
        view.table = e4_table();
    }
    view.n_layers = n_layers;
    view.dim = layers.dim_rotation.k;
    view.hidden_dim = layers.hidden_rotation.k;
    view.n_heads = layers.queries->n_heads;
    view.eps = layers.eps;
    view.dim_block = layers.dim_rotation.block;
    view.hidden_block = layers.hidden_rotation.block;
    view.rope = rope;
    view.kv = kv.view();
    view.attention = {0, layers.sliding_window, exact::attention_constant(layers.queries->head_dim),
                      n_chunks};
    view.hidden = layers.gate_up->data();
    if (!decode_layers_supports(view, n_tokens, device.n_multiprocessors())) return std::nullopt;
    const int heads = view.n_heads * kLayersHeadDim;
    const int qkv = heads + 2 * kv.shape.n_kv_heads * kLayersHeadDim;
    for (int i = 0; i < n_layers; ++i) {
        const Layer& layer = layers.all[static_cast<std::size_t>(i)];
        if (layer.experts != nullptr) return std::nullopt;
        LayerView& to = view.layers[i];
        to.attn_norm = layer.attn_norm->data();
        to.ffn_norm = layer.ffn_norm->data();
        if (!view_matrix(*layer.qkv, view.format, qkv, view.dim, to.matrices[kQkv]) ||
            !view_matrix(*layer.attn_output, view.format, view.dim, heads,
                         to.matrices[kAttnOutput]) ||
            !view_matrix(*layer.gate_up, view.format, 2 * view.hidden_dim, view.dim,
                         to.matrices[kGateUp]) ||
            !view_matrix(*layer.down, view.format, view.dim, view.hidden_dim, to.matrices[kDown]))
            return std::nullopt;
    }
    return view;
}

}  // namespace etalon::backend::cuda

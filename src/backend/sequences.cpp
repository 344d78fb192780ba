// SPDX-License-Identifier: Apache-2.0
// Operations that a device may take together, one after the other.
#include <utility>

#include "backend/operations.h"
#include "base/error.h"

namespace etalon::backend {

void Backend::norm_linear(const Batch& batch, const FloatBuffer& h, const FloatBuffer& norm,
                          float eps, const exact::Rotation& rotation, Activations& x,
                          const LinearWeights& w, FloatBuffer& y) {
    norm_quantize(batch, h, norm, eps, rotation, x);
    linear(batch, x, w, Store::replace, y);
}

void Backend::quantize_linear(const Batch& batch, const FloatBuffer& v, Activations& x,
                              const LinearWeights& w, FloatBuffer& h) {
    quantize(batch, v, x);
    linear(batch, x, w, Store::add, h);
}

void Backend::feed_forward(const Batch& batch, const FeedForward& layer, FloatBuffer& h) {
    norm_linear(batch, h, *layer.norm, layer.eps, layer.dim_rotation, *layer.x_dim, *layer.gate_up,
                *layer.gate_up_room);
    swiglu_quantize(batch, *layer.gate_up_room, layer.hidden_rotation, *layer.x_hidden);
    linear(batch, *layer.x_hidden, *layer.down, Store::add, h);
}

Experts::Experts(ExpertMatrices its_matrices, int its_n_used)
    : matrices(std::move(its_matrices)), n_used(its_n_used) {
    ETALON_ASSERT(n_used >= 1 && n_used <= n_experts());
    ETALON_ASSERT(matrices.down.size() == matrices.gate_up.size());
    ETALON_ASSERT(matrices.router->n_rows == n_experts());
    ETALON_ASSERT(matrices.router->forms_needed == kFloating);
}

void Backend::draw(const Batch& /*batch*/, const FloatBuffer& /*logits*/, int /*vocab_size*/,
                   std::span<const Draw> /*draws*/, std::span<std::int32_t> /*tokens*/) {
    ETALON_ASSERT(false && "who calls has asked can_draw()");
}

FeedForward feed_forward_of(const Layers& layers, int index) {
    const Layer& layer = layers.all[static_cast<std::size_t>(index)];
    return {layer.ffn_norm,         layers.eps, layers.dim_rotation, layer.gate_up,
            layers.hidden_rotation, layer.down, layers.x_dim,        layers.gate_up,
            layers.x_hidden};
}

ExpertsLayer experts_of(const Layers& layers, int index) {
    const Layer& layer = layers.all[static_cast<std::size_t>(index)];
    return {layer.ffn_norm,  layers.eps,           layers.dim_rotation,  layers.hidden_rotation,
            layer.experts,   layers.x_dim,         layers.router_logits, layers.gate_up,
            layers.x_hidden, layers.expert_outputs};
}

void Backend::layers(const Batch& batch, const Layers& layers, KvCache& kv, FloatBuffer& h) {
    int index = 0;
    for (const Layer& layer : layers.all) {
        // FWD-2: attention
        norm_linear(batch, h, *layer.attn_norm, layers.eps, layers.dim_rotation, *layers.x_dim,
                    *layer.qkv, *layers.qkv);
        rope_append(batch, *layers.qkv, *layers.rope, index, kv, *layers.queries);
        attention(batch, *layers.queries, index, layers.sliding_window, kv, *layers.o);
        quantize_linear(batch, *layers.o, *layers.x_heads, *layer.attn_output, h);
        if (layer.experts != nullptr) {
            experts_feed_forward(batch, experts_of(layers, index), h);  // FWD-5
        } else {
            feed_forward(batch, feed_forward_of(layers, index), h);  // FWD-3
        }
        ++index;
    }
}

}  // namespace etalon::backend

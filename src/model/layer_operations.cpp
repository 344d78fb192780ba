// SPDX-License-Identifier: Apache-2.0
// The operations of a layer one by one.
#include "model/transformer.h"

namespace etalon::model {

std::vector<LayerOperation> Transformer::layer_operations(const backend::Batch& batch,
                                                          backend::KvCache& kv) {
    const auto layer = [this](int index) -> const Layer& {
        return layers_[static_cast<std::size_t>(index)];
    };
    backend::Backend& device = *backend_;
    std::vector<LayerOperation> operations;
    operations.push_back({"norm, qkv", {"attn_q", "attn_k", "attn_v"}, [=, this, &device](int i) {
                              device.norm_linear(batch, *h_, *layer(i).attn_norm, config_.norm_eps,
                                                 dim_rotation_, *x_dim_, *layer(i).qkv, *qkv_);
                          }});
    operations.push_back({"rope, append", {}, [=, this, &device, &kv](int i) {
                              device.rope_append(batch, *qkv_, rope_, i, kv, *queries_);
                          }});
    operations.push_back({"attention", {}, [=, this, &device, &kv](int i) {
                              device.attention(batch, *queries_, i, config_.sliding_window, kv,
                                               *o_);
                          }});
    operations.push_back({"attn_output", {"attn_output"}, [=, this, &device](int i) {
                              device.quantize_linear(batch, *o_, *x_heads_, *layer(i).attn_output,
                                                     *h_);
                          }});
    operations.push_back(
        {"feed-forward", {"ffn_gate", "ffn_up", "ffn_down"}, [=, this, &device](int i) {
             device.feed_forward(batch, feed_forward_of(layer(i)), *h_);
         }});
    return operations;
}

}  // namespace etalon::model

// SPDX-License-Identifier: Apache-2.0
// The operations of a layer one by one.
#include "model/transformer.h"

namespace etalon::model {

std::vector<LayerOperation> Transformer::layer_operations(const backend::Batch& batch,
                                                          backend::KvCache& kv) {
    using backend::Layer;
    using backend::Layers;
    backend::Backend& device = *backend_;
    stack_.rope = &rope_;
    const Layers& stack = stack_;
    const auto layer = [&stack](int index) -> const Layer& {
        return stack.all[static_cast<std::size_t>(index)];
    };
    std::vector<LayerOperation> operations;
    operations.push_back(
        {"norm, qkv", {"attn_q", "attn_k", "attn_v"}, [=, this, &device, &stack](int i) {
             device.norm_linear(batch, *h_, *layer(i).attn_norm, stack.eps, stack.dim_rotation,
                                *stack.x_dim, *layer(i).qkv, *stack.qkv);
         }});
    operations.push_back({"rope, append", {}, [=, &device, &stack, &kv](int i) {
                              device.rope_append(batch, *stack.qkv, *stack.rope, i, kv,
                                                 *stack.queries);
                          }});
    operations.push_back({"attention", {}, [=, &device, &stack, &kv](int i) {
                              device.attention(batch, *stack.queries, i, stack.sliding_window, kv,
                                               *stack.o);
                          }});
    operations.push_back({"attn_output", {"attn_output"}, [=, this, &device, &stack](int i) {
                              device.quantize_linear(batch, *stack.o, *stack.x_heads,
                                                     *layer(i).attn_output, *h_);
                          }});
    operations.push_back(
        {"feed-forward", {"ffn_gate", "ffn_up", "ffn_down"}, [=, this, &device, &stack](int i) {
             device.feed_forward(batch, feed_forward_of(stack, i), *h_);
         }});
    return operations;
}

}  // namespace etalon::model

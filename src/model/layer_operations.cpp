// SPDX-License-Identifier: Apache-2.0
// The operations of a layer one by one.
#include <algorithm>
#include <fmt/format.h>

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
        {"norm, qkv", {"attn_q", "attn_k", "attn_v"}, 1.0, [=, this, &device, &stack](int i) {
             device.norm_linear(batch, *h_, *layer(i).attn_norm, stack.eps, stack.dim_rotation,
                                *stack.x_dim, *layer(i).qkv, *stack.qkv);
         }});
    operations.push_back({"rope, append", {}, 1.0, [=, &device, &stack, &kv](int i) {
                              device.rope_append(batch, *stack.qkv, *stack.rope, i, kv,
                                                 *stack.queries);
                          }});
    operations.push_back({"attention", {}, 1.0, [=, &device, &stack, &kv](int i) {
                              device.attention(batch, *stack.queries, i, stack.sliding_window, kv,
                                               *stack.o);
                          }});
    operations.push_back({"attn_output", {"attn_output"}, 1.0, [=, this, &device, &stack](int i) {
                              device.quantize_linear(batch, *stack.o, *stack.x_heads,
                                                     *layer(i).attn_output, *h_);
                          }});
    if (config_.n_experts > 0) {
        operations.push_back(experts_operation(batch));
        return operations;
    }
    operations.push_back({"feed-forward",
                          {"ffn_gate", "ffn_up", "ffn_down"},
                          1.0,
                          [=, this, &device, &stack](int i) {
                              device.feed_forward(batch, feed_forward_of(stack, i), *h_);
                          }});
    return operations;
}

/// Which experts the tokens use is not known: their bytes are those of the most that there can be.
/// Those of the router, a thousandth of them, are left out.
LayerOperation Transformer::experts_operation(const backend::Batch& batch) {
    const int n_read = static_cast<int>(std::min<std::int64_t>(
        config_.n_experts, std::int64_t{batch.n_tokens()} * config_.n_experts_used));
    LayerOperation operation{
        "experts", {}, static_cast<double>(config_.n_experts_used) / n_read, {}};
    for (int e = 0; e < n_read; ++e) {
        for (const char* part : {"ffn_gate", "ffn_up", "ffn_down"})
            operation.matrices.push_back(fmt::format("{}.{}", part, e));
    }
    operation.run = [=, this](int i) {
        backend_->experts_feed_forward(batch, experts_of(stack_, i), *h_);
    };
    return operation;
}

}  // namespace etalon::model

// SPDX-License-Identifier: Apache-2.0
// A backend that hands every call to another one: tests change one of them.
#pragma once

#include <memory>
#include <utility>

#include "backend/operations.h"

namespace etalon::backend {

class Forwarding : public Backend {
  public:
    explicit Forwarding(std::unique_ptr<Backend> its_inner) : inner(std::move(its_inner)) {}

    std::string_view name() const override { return inner->name(); }
    std::uint64_t linear_bytes(const weights::Tensor& tensor) const override {
        return inner->linear_bytes(tensor);
    }
    std::unique_ptr<LinearWeights> load_linear(std::span<const weights::Tensor* const> parts,
                                               std::span<const float> bias) override {
        return inner->load_linear(parts, bias);
    }
    std::unique_ptr<Experts> make_experts(ExpertMatrices matrices, int n_used) override {
        return inner->make_experts(std::move(matrices), n_used);
    }
    std::unique_ptr<Embedding> load_embedding(const weights::Tensor& tensor) override {
        return inner->load_embedding(tensor);
    }
    std::unique_ptr<FloatBuffer> make_floats(std::size_t size) override {
        return inner->make_floats(size);
    }
    std::unique_ptr<Activations> make_activations(int n_tokens_max, int n_cols,
                                                  unsigned forms) override {
        return inner->make_activations(n_tokens_max, n_cols, forms);
    }
    std::unique_ptr<Queries> make_queries(int n_tokens_max, int n_heads, int head_dim) override {
        return inner->make_queries(n_tokens_max, n_heads, head_dim);
    }
    std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape) override {
        return inner->make_kv_cache(shape);
    }
    void upload(std::span<const float> from, FloatBuffer& to) override { inner->upload(from, to); }

    void embed(const Batch& batch, const Embedding& embedding, FloatBuffer& h) override {
        inner->embed(batch, embedding, h);
    }
    void norm_quantize(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w, float eps,
                       const exact::Rotation& rotation, Activations& x) override {
        inner->norm_quantize(batch, h, w, eps, rotation, x);
    }
    void quantize(const Batch& batch, const FloatBuffer& v, Activations& x) override {
        inner->quantize(batch, v, x);
    }
    void swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                         const exact::Rotation& rotation, Activations& x) override {
        inner->swiglu_quantize(batch, gate_up, rotation, x);
    }
    void linear(const Batch& batch, const Activations& x, const LinearWeights& w, Store store,
                FloatBuffer& y) override {
        inner->linear(batch, x, w, store, y);
    }
    void logits(const Batch& batch, const Activations& x, const LinearWeights& head,
                std::span<const std::int32_t> rows, FloatBuffer& logits) override {
        inner->logits(batch, x, head, rows, logits);
    }
    void experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                              FloatBuffer& h) override {
        inner->experts_feed_forward(batch, layer, h);
    }
    void rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope, int layer,
                     KvCache& kv, Queries& queries) override {
        inner->rope_append(batch, qkv, rope, layer, kv, queries);
    }
    void attention(const Batch& batch, const Queries& queries, int layer, int sliding_window,
                   const KvCache& kv, FloatBuffer& o) override {
        inner->attention(batch, queries, layer, sliding_window, kv, o);
    }
    void clear_page(KvCache& kv, int page) override { inner->clear_page(kv, page); }
    void download(const FloatBuffer& from, std::size_t offset, std::span<float> to) override {
        inner->download(from, offset, to);
    }
    std::uint64_t checksum(const FloatBuffer& logits, std::size_t row, int vocab_size) override {
        return inner->checksum(logits, row, vocab_size);
    }
    HostActivations read(const Activations& x, int n_tokens) override {
        return inner->read(x, n_tokens);
    }
    HostVector read_query(const Queries& queries, int token, int head) override {
        return inner->read_query(queries, token, head);
    }
    HostVector read_key(const KvCache& kv, int layer, int page, int slot, int head) override {
        return inner->read_key(kv, layer, page, slot, head);
    }
    HostVector read_value(const KvCache& kv, int layer, int page, int slot, int head) override {
        return inner->read_value(kv, layer, page, slot, head);
    }

    std::unique_ptr<Backend> inner;
};

}  // namespace etalon::backend

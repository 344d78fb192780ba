// SPDX-License-Identifier: Apache-2.0
// The Llama/Mistral/Mixtral transformer over a backend's operations (spec FWD-1 to FWD-5).
#include "model/transformer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <fmt/format.h>
#include <string>

#include "base/error.h"

namespace etalon::model {

namespace {

std::size_t product(std::int64_t a, std::int64_t b) {
    ETALON_ASSERT(a >= 0 && b >= 0);
    return static_cast<std::size_t>(a) * static_cast<std::size_t>(b);
}

std::vector<float> read_vector(const weights::Tensor& tensor) {
    std::vector<float> values(product(tensor.n_rows, tensor.n_cols));
    exact::dequantize_row(tensor.format, tensor.data, values);
    return values;
}

std::uint64_t next_number() noexcept {
    static std::atomic<std::uint64_t> number{0};
    return ++number;
}

struct PartShape {
    std::string name;  // without ".weight"
    std::int64_t n_rows;
};

/// Stacks matrices that share their input. Either all of them have a bias or none.
std::unique_ptr<backend::LinearWeights> load_stack(const weights::ModelFile& file,
                                                   backend::Backend& device,
                                                   std::span<const PartShape> shapes,
                                                   std::int64_t n_cols) {
    std::vector<const weights::Tensor*> parts;
    std::vector<float> bias;
    std::size_t n_biased = 0;
    for (const PartShape& shape : shapes) {
        parts.push_back(&file.tensor(shape.name + ".weight", shape.n_rows, n_cols));
        if (!file.has(shape.name + ".bias")) continue;
        ++n_biased;
        const auto part = read_vector(file.tensor(shape.name + ".bias", 1, shape.n_rows));
        bias.insert(bias.end(), part.begin(), part.end());
    }
    if (n_biased != 0 && n_biased != shapes.size()) {
        throw Error(ExitCode::invalid,
                    fmt::format("{}.bias: some of the matrices stacked with it have none ({})",
                                shapes.front().name, printable(file.path().string())));
    }
    return device.load_linear(parts, bias);
}

}  // namespace

Transformer::Transformer(const weights::ModelFile& file, backend::Backend& backend,
                         int n_tokens_max)
    : config_(file.config()),
      backend_(&backend),
      n_tokens_max_(n_tokens_max),
      number_(next_number()) {
    ETALON_ASSERT(n_tokens_max >= 1);
    const exact::Rotation none_dim{config_.dim, 1, config_.dim, false};
    const exact::Rotation none_hidden{config_.hidden_dim, 1, config_.hidden_dim, false};
    dim_rotation_ = file.rotated() ? exact::rotation_for(config_.dim) : none_dim;
    hidden_rotation_ = file.rotated() ? exact::rotation_for(config_.hidden_dim) : none_hidden;
    rope_ = {config_.rope.pairing, exact::rope_turns(config_.rope),
             exact::rope_magnitude(config_.rope)};
    embedding_ =
        backend.load_embedding(file.tensor("token_embd.weight", config_.vocab_size, config_.dim));
    for (int i = 0; i < config_.n_layers; ++i)
        layers_.push_back(load_layer(file, i));
    output_norm_ = load_vector(file, "output_norm.weight", config_.dim);
    const bool own_head = file.has("output.weight");
    const PartShape head{own_head ? "output" : "token_embd", config_.vocab_size};
    head_ = load_stack(file, backend, {&head, 1}, config_.dim);
    make_buffers();
}

std::unique_ptr<backend::FloatBuffer> Transformer::load_vector(const weights::ModelFile& file,
                                                               const std::string& name,
                                                               std::int64_t size) const {
    auto buffer = backend_->make_floats(static_cast<std::size_t>(size));
    backend_->upload(read_vector(file.tensor(name, 1, size)), *buffer);
    return buffer;
}

Transformer::Layer Transformer::load_layer(const weights::ModelFile& file, int index) const {
    const std::string prefix = fmt::format("blk.{}.", index);
    const std::int64_t q_dim = std::int64_t{config_.n_heads} * config_.head_dim;
    const std::int64_t kv_dim = std::int64_t{config_.n_kv_heads} * config_.head_dim;
    const std::array<PartShape, 3> qkv{
        {{prefix + "attn_q", q_dim}, {prefix + "attn_k", kv_dim}, {prefix + "attn_v", kv_dim}}};
    const std::array<PartShape, 1> attn_output{{{prefix + "attn_output", config_.dim}}};
    Layer layer;
    layer.attn_norm = load_vector(file, prefix + "attn_norm.weight", config_.dim);
    layer.qkv = load_stack(file, *backend_, qkv, config_.dim);
    layer.attn_output = load_stack(file, *backend_, attn_output, q_dim);
    layer.ffn_norm = load_vector(file, prefix + "ffn_norm.weight", config_.dim);
    if (config_.n_experts > 0) {
        layer.experts = load_experts(file, prefix);
        return layer;
    }
    const std::array<PartShape, 2> gate_up{
        {{prefix + "ffn_gate", config_.hidden_dim}, {prefix + "ffn_up", config_.hidden_dim}}};
    const std::array<PartShape, 1> ffn_down{{{prefix + "ffn_down", config_.dim}}};
    layer.gate_up = load_stack(file, *backend_, gate_up, config_.dim);
    layer.ffn_down = load_stack(file, *backend_, ffn_down, config_.hidden_dim);
    return layer;
}

std::unique_ptr<backend::Experts> Transformer::load_experts(const weights::ModelFile& file,
                                                            const std::string& prefix) const {
    backend::ExpertMatrices matrices;
    const PartShape router{prefix + "ffn_gate_inp", config_.n_experts};
    matrices.router = load_stack(file, *backend_, {&router, 1}, config_.dim);
    for (int e = 0; e < config_.n_experts; ++e) {
        const std::array<PartShape, 2> gate_up{
            {{fmt::format("{}ffn_gate.{}", prefix, e), config_.hidden_dim},
             {fmt::format("{}ffn_up.{}", prefix, e), config_.hidden_dim}}};
        const PartShape down{fmt::format("{}ffn_down.{}", prefix, e), config_.dim};
        matrices.gate_up.push_back(load_stack(file, *backend_, gate_up, config_.dim));
        matrices.down.push_back(load_stack(file, *backend_, {&down, 1}, config_.hidden_dim));
    }
    return backend_->make_experts(std::move(matrices), config_.n_experts_used);
}

void Transformer::make_buffers() {
    unsigned dim_forms = head_->forms_needed;
    unsigned heads_forms = 0;
    unsigned hidden_forms = 0;
    for (const Layer& layer : layers_) {
        dim_forms |= layer.qkv->forms_needed;
        heads_forms |= layer.attn_output->forms_needed;
        if (layer.experts == nullptr) {
            dim_forms |= layer.gate_up->forms_needed;
            hidden_forms |= layer.ffn_down->forms_needed;
            continue;
        }
        dim_forms |= layer.experts->matrices.router->forms_needed;
        for (const auto& gate_up : layer.experts->matrices.gate_up)
            dim_forms |= gate_up->forms_needed;
        for (const auto& down : layer.experts->matrices.down)
            hidden_forms |= down->forms_needed;
    }
    const int q_dim = config_.n_heads * config_.head_dim;
    const int qkv_dim = q_dim + 2 * config_.n_kv_heads * config_.head_dim;
    // Inputs of down: the tokens, or each of them once for each expert that it uses.
    const std::int64_t n_pairs = std::int64_t{n_tokens_max_} * std::max(config_.n_experts_used, 1);
    h_ = backend_->make_floats(product(n_tokens_max_, config_.dim));
    qkv_ = backend_->make_floats(product(n_tokens_max_, qkv_dim));
    o_ = backend_->make_floats(product(n_tokens_max_, q_dim));
    gate_up_ = backend_->make_floats(product(n_pairs, 2 * std::int64_t{config_.hidden_dim}));
    x_dim_ = backend_->make_activations(n_tokens_max_, config_.dim, dim_forms);
    x_heads_ = backend_->make_activations(n_tokens_max_, q_dim, heads_forms);
    x_hidden_ =
        backend_->make_activations(static_cast<int>(n_pairs), config_.hidden_dim, hidden_forms);
    if (config_.n_experts > 0) {
        router_logits_ = backend_->make_floats(product(n_tokens_max_, config_.n_experts));
        expert_outputs_ = backend_->make_floats(product(n_pairs, config_.dim));
    }
    queries_ = backend_->make_queries(n_tokens_max_, config_.n_heads, config_.head_dim);
    for (const Layer& layer : layers_) {
        views_.push_back({layer.attn_norm.get(), layer.qkv.get(), layer.attn_output.get(),
                          layer.ffn_norm.get(), layer.gate_up.get(), layer.ffn_down.get(),
                          layer.experts.get()});
    }
    stack_ = {views_,          config_.norm_eps,       dim_rotation_,        hidden_rotation_,
              nullptr,         config_.sliding_window, x_dim_.get(),         x_heads_.get(),
              x_hidden_.get(), queries_.get(),         qkv_.get(),           o_.get(),
              gate_up_.get(),  router_logits_.get(),   expert_outputs_.get()};
}

std::unique_ptr<backend::KvCache> Transformer::make_kv_cache(int n_pages) const {
    return backend_->make_kv_cache(
        {config_.n_layers, config_.n_kv_heads, config_.head_dim, n_pages});
}

void Transformer::forward(const backend::Batch& batch, std::span<const std::int32_t> rows,
                          backend::KvCache& kv, backend::FloatBuffer& logits) {
    start(batch, rows, kv, logits, {}, {});
    finish(batch);
}

void Transformer::start(const backend::Batch& batch, std::span<const std::int32_t> rows,
                        backend::KvCache& kv, backend::FloatBuffer& logits,
                        std::span<const backend::Draw> draws, std::span<std::int32_t> tokens) {
    ETALON_ASSERT(batch.n_tokens() >= 1 && batch.n_tokens() <= n_tokens_max_);
    const backend::Pass pass{number_, config_.sliding_window, config_.vocab_size, rows, &kv,
                             &logits};
    if (!backend_->begin(batch, pass)) run_pass(batch, rows, kv, logits);
    if (!draws.empty()) backend_->draw(batch, logits, config_.vocab_size, draws, tokens);
}

void Transformer::run_pass(const backend::Batch& batch, std::span<const std::int32_t> rows,
                           backend::KvCache& kv, backend::FloatBuffer& logits) {
    backend_->embed(batch, *embedding_, *h_);  // FWD-1
    stack_.rope = &rope_;                      // this object's, which may have been moved
    backend_->layers(batch, stack_, kv, *h_);  // FWD-2, FWD-3, FWD-5
    if (!rows.empty()) head(batch, rows, logits);
}

void Transformer::head(const backend::Batch& batch, std::span<const std::int32_t> rows,
                       backend::FloatBuffer& logits) {
    backend_->norm_quantize(batch, *h_, *output_norm_, config_.norm_eps, dim_rotation_, *x_dim_);
    backend_->logits(batch, *x_dim_, *head_, rows, logits);  // FWD-4
}

std::vector<float> Transformer::hidden_states(const backend::Batch& batch) {
    if (!x_hidden_state_) {
        x_hidden_state_ =
            backend_->make_activations(n_tokens_max_, config_.dim, backend::kFloating);
    }
    const exact::Rotation none{config_.dim, 1, config_.dim, false};
    backend_->norm_quantize(batch, *h_, *output_norm_, config_.norm_eps, none,
                            *x_hidden_state_);  // VEC-1
    return backend_->read(*x_hidden_state_, batch.n_tokens()).floats;
}

}  // namespace etalon::model

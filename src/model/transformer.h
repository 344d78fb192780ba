// SPDX-License-Identifier: Apache-2.0
// The Llama/Mistral/Mixtral transformer over a backend's operations (spec FWD-1 to FWD-5).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "backend/operations.h"
#include "base/sha256.h"
#include "weights/model_file.h"

namespace etalon::model {

/// What keys a live digest: 32 bytes that nobody could foresee.
using LiveNonce = std::array<std::uint8_t, 32>;

/// An operation of every layer, to be measured alone.
struct LayerOperation {
    std::string_view name;
    std::vector<std::string> matrices;   ///< tensors of a layer that it reads
    double token_share = 1.0;            ///< of the batch, which each of them multiplies
    std::function<void(int layer)> run;  ///< the batch has begun
};

/// Weights on a device and the buffers of a forward pass. The backend outlives it, and so does the
/// model file, whose pages the backend may use in place.
///   Transformer transformer(file, backend, 512);
///   transformer.forward(batch, {&last, 1}, kv, logits);
class Transformer {
  public:
    /// `n_tokens_max`: largest batch. Errors: invalid (a tensor is missing or has another shape).
    Transformer(const weights::ModelFile& file, backend::Backend& backend, int n_tokens_max);

    const weights::ModelConfig& config() const noexcept { return config_; }
    backend::Backend& device() const noexcept { return *backend_; }
    int n_tokens_max() const noexcept { return n_tokens_max_; }

    /// The weights of the layers, as the device holds them.
    std::span<const backend::Layer> layers() const noexcept { return views_; }

    /// A cache of `n_pages` pages of 64 tokens for every layer.
    std::unique_ptr<backend::KvCache> make_kv_cache(int n_pages) const;

    /// One pass over the batch: keys and values go into `kv`, logits of the tokens `rows` (indices
    /// into the batch) to logits[rows.size(), vocab_size]. 1 <= batch.n_tokens() <= n_tokens_max.
    void forward(const backend::Batch& batch, std::span<const std::int32_t> rows,
                 backend::KvCache& kv, backend::FloatBuffer& logits);
    /// The same in two parts, with the tokens behind `rows` (Backend::draw) unless `draws` is
    /// empty: what start() is given stays as it is until finish(). A device that works beside the
    /// host has only begun when start() returns. Nothing else uses it until finish(), but the pass
    /// behind where it may follow (Backend::can_follow).
    void start(const backend::Batch& batch, std::span<const std::int32_t> rows,
               backend::KvCache& kv, backend::FloatBuffer& logits,
               std::span<const backend::Draw> draws, std::span<std::int32_t> tokens);
    void finish(const backend::Batch& batch) { backend_->finish(batch); }

    /// Behind forward() and before the next one, of the same batch: logits of further tokens, with
    /// the bits that forward() gives. Flags of batch.failed are set for tokens that have none.
    void head(const backend::Batch& batch, std::span<const std::int32_t> rows,
              backend::FloatBuffer& logits);
    /// Likewise: the hidden state of every token of the batch, [batch.n_tokens(), dim] (VEC-1).
    std::vector<float> hidden_states(const backend::Batch& batch);

    /// A hash over the weights as they lie on the device, keyed by the nonce: every matrix is
    /// multiplied with inputs that the nonce draws, every other value is read (docs/live.md). The
    /// same for the same weights on every backend; between passes only.
    Sha256Digest live_digest(const LiveNonce& nonce);

    /// In the order of a layer. `kv` and what `batch` points to outlive the result; what the
    /// operations leave behind is no answer.
    std::vector<LayerOperation> layer_operations(const backend::Batch& batch, backend::KvCache& kv);

  private:
    struct Layer {
        std::unique_ptr<backend::FloatBuffer> attn_norm;  // [dim]
        std::unique_ptr<backend::LinearWeights> qkv;  // [(n_heads + 2 n_kv_heads) head_dim, dim]
        std::unique_ptr<backend::LinearWeights> attn_output;  // [dim, n_heads head_dim]
        std::unique_ptr<backend::FloatBuffer> ffn_norm;       // [dim]
        std::unique_ptr<backend::LinearWeights> gate_up;      // [2 hidden_dim, dim]
        std::unique_ptr<backend::LinearWeights> ffn_down;     // [dim, hidden_dim]
        std::unique_ptr<backend::Experts> experts;            // in place of these two
    };

    Layer load_layer(const weights::ModelFile& file, int index) const;
    std::unique_ptr<backend::Experts> load_experts(const weights::ModelFile& file,
                                                   const std::string& prefix) const;
    std::unique_ptr<backend::FloatBuffer> load_vector(const weights::ModelFile& file,
                                                      const std::string& name,
                                                      std::int64_t size) const;
    void make_buffers();
    LayerOperation experts_operation(const backend::Batch& batch);
    void run_pass(const backend::Batch& batch, std::span<const std::int32_t> rows,
                  backend::KvCache& kv, backend::FloatBuffer& logits);

    weights::ModelConfig config_;
    backend::Backend* backend_;
    int n_tokens_max_;
    std::uint64_t number_;             // that no other transformer of the process has or had
    exact::Rotation dim_rotation_;     // of the inputs of qkv, gate_up and head
    exact::Rotation hidden_rotation_;  // of the input of ffn_down
    backend::RopeTables rope_;

    std::unique_ptr<backend::Embedding> embedding_;
    std::vector<Layer> layers_;
    std::unique_ptr<backend::FloatBuffer> output_norm_;
    std::unique_ptr<backend::LinearWeights> head_;

    std::unique_ptr<backend::FloatBuffer> h_;              // [T, dim] the residual stream
    std::unique_ptr<backend::FloatBuffer> qkv_;            // [T, (n_heads + 2 n_kv_heads) head_dim]
    std::unique_ptr<backend::FloatBuffer> o_;              // [T, n_heads head_dim]
    std::unique_ptr<backend::FloatBuffer> gate_up_;        // [T, 2 hidden_dim], or of pairs
    std::unique_ptr<backend::FloatBuffer> router_logits_;  // [T, n_experts]
    std::unique_ptr<backend::FloatBuffer> expert_outputs_;  // [pairs, dim]
    std::unique_ptr<backend::Activations> x_dim_;
    std::unique_ptr<backend::Activations> x_hidden_state_;  // made when one is asked for
    std::unique_ptr<backend::Activations> x_heads_;
    std::unique_ptr<backend::Activations> x_hidden_;
    std::unique_ptr<backend::Queries> queries_;
    std::vector<backend::Layer> views_;  // of layers_
    backend::Layers stack_;
};

}  // namespace etalon::model

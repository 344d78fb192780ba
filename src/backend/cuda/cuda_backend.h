// SPDX-License-Identifier: Apache-2.0
// The backend of one card. `cuda_backend.cpp` has the memory, the state of a batch and the launch
// of each operation, `attention_host.cpp` RoPE, attention and whole layers.
#pragma once

#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/buffers.h"
#include "backend/cuda/common/error.h"
#include "backend/cuda/common/event.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/decode_host.h"
#include "backend/cuda/device.h"
#include "backend/cuda/experts.h"
#include "backend/cuda/graphs.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/passes.h"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

inline std::size_t size_of(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

/// The tables of one model, on the card.
struct DeviceRope {
    RopeTables tables;
    DeviceArray<std::uint64_t> turns;
};

class CudaBackend final : public Backend {
  public:
    CudaBackend(int index, CudaKernels kernels)
        : device_(index, kernels),
          name_(fmt::format("cuda:{}", index)),
          row_bytes_max_(row_shared_bytes_max()),
          wide_attention_(device_.has_sm90() && half_products_are_exact()),
          trials_(kernels == CudaKernels::best) {}

    std::string_view name() const override { return name_; }

    std::uint64_t linear_bytes(const weights::Tensor& tensor) const override {
        return cuda::linear_bytes(tensor);
    }
    std::uint64_t linear_room_bytes(const weights::Tensor& tensor) const override {
        return cuda::linear_room_bytes(tensor);
    }
    std::uint64_t embedding_bytes(const weights::Tensor& tensor) const override {
        return cuda::embedding_bytes(tensor);
    }
    std::optional<std::uint64_t> free_bytes() const override {
        device_.use();
        return device_.free_bytes();
    }
    std::unique_ptr<LinearWeights> load_linear(std::span<const weights::Tensor* const> parts,
                                               std::span<const float> bias) override {
        device_.use();
        return cuda::load_linear(parts, bias, loader_, device_);
    }
    std::unique_ptr<Experts> make_experts(ExpertMatrices matrices, int n_used) override {
        device_.use();
        return std::make_unique<CudaExperts>(std::move(matrices), n_used, device_.has_sm90(),
                                             loader_);
    }
    std::unique_ptr<Embedding> load_embedding(const weights::Tensor& tensor) override {
        device_.use();
        return cuda::load_embedding(tensor, loader_);
    }
    std::unique_ptr<FloatBuffer> make_floats(std::size_t size) override {
        device_.use();
        return std::make_unique<CudaFloats>(DeviceArray<float>(size));
    }
    std::unique_ptr<Activations> make_activations(int n_tokens_max, int n_cols,
                                                  unsigned forms) override;
    std::unique_ptr<Queries> make_queries(int n_tokens_max, int n_heads, int head_dim) override;
    std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape) override;
    void upload(std::span<const float> from, FloatBuffer& to) override {
        ETALON_ASSERT(from.size() == to.size());
        passes_.results().forget(to.data());
        if (loader_.is_open()) {  // among weights that are loaded
            device_.use();
            return loader_.copy(to.data(), std::as_bytes(from));
        }
        wait();
        if (!from.empty()) copy_to_device(to.data(), from.data(), from.size_bytes());
    }

    void begin(const Batch& batch) override {
        device_.use();
        loader_.release();
        graphs_.abandon(device_.stream());
        passes_.begin(batch, device_.stream());
    }
    bool begin(const Batch& batch, const Pass& pass) override;
    void finish(const Batch& batch) override {
        device_.use();
        if (passes_.holds(batch)) graphs_.finish(device_.stream());
        passes_.finish(batch, device_.stream());
    }
    bool can_follow() const override { return true; }

    void embed(const Batch& batch, const Embedding& embedding, FloatBuffer& h) override;
    void norm_quantize(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w, float eps,
                       const exact::Rotation& rotation, Activations& x) override {
        norm_codes(batch, h, w, eps, rotation, x, false);
    }
    void quantize(const Batch& batch, const FloatBuffer& v, Activations& x) override {
        plain_codes(batch, v, x, false);
    }
    void swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                         const exact::Rotation& rotation, Activations& x) override;
    void linear(const Batch& batch, const Activations& x, const LinearWeights& w, Store store,
                FloatBuffer& y) override;
    void norm_linear(const Batch& batch, const FloatBuffer& h, const FloatBuffer& norm, float eps,
                     const exact::Rotation& rotation, Activations& x, const LinearWeights& w,
                     FloatBuffer& y) override {
        norm_codes(batch, h, norm, eps, rotation, x, matrix_wants_across(w, x, batch.n_tokens()));
        linear(batch, x, w, Store::replace, y);
    }
    void quantize_linear(const Batch& batch, const FloatBuffer& v, Activations& x,
                         const LinearWeights& w, FloatBuffer& h) override {
        plain_codes(batch, v, x, matrix_wants_across(w, x, batch.n_tokens()));
        linear(batch, x, w, Store::add, h);
    }
    void logits(const Batch& batch, const Activations& x, const LinearWeights& head,
                std::span<const std::int32_t> rows, FloatBuffer& logits) override;
    void feed_forward(const Batch& batch, const FeedForward& layer, FloatBuffer& h) override;
    void experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                              FloatBuffer& h) override;
    bool can_draw(int vocab_size) const override { return vocab_size <= kDrawVocabMax; }
    void draw(const Batch& batch, const FloatBuffer& logits, int vocab_size,
              std::span<const Draw> draws, std::span<std::int32_t> tokens) override;
    void rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope, int layer,
                     KvCache& kv, Queries& queries) override;
    void attention(const Batch& batch, const Queries& queries, int layer, int sliding_window,
                   const KvCache& kv, FloatBuffer& o) override;
    void layers(const Batch& batch, const Layers& layers, KvCache& kv, FloatBuffer& h) override;

    void clear_page(KvCache& kv, int page) override;

    void download(const FloatBuffer& from, std::size_t offset, std::span<float> to) override {
        ETALON_ASSERT(offset <= from.size() && to.size() <= from.size() - offset);
        if (passes_.finished().copy(from.data(), offset, to)) return;
        wait();
        if (!to.empty()) copy_to_host(to.data(), from.data() + offset, to.size_bytes());
    }
    std::uint64_t checksum(const FloatBuffer& logits, std::size_t row, int vocab_size) override;
    HostActivations read(const Activations& x, int n_tokens) override;
    HostVector read_query(const Queries& queries, int token, int head) override;
    HostVector read_key(const KvCache& kv, int layer, int page, int slot, int head) override;
    HostVector read_value(const KvCache& kv, int layer, int page, int slot, int head) override;

  private:
    /// The card's view of a batch: the one that was begun, or one for this operation alone.
    class Scope {
      public:
        Scope(CudaBackend& backend, const Batch& batch)
            : backend_(&backend), batch_(&batch), alone_(!backend.passes_.holds(batch)) {
            if (alone_) {
                backend_->begin(batch);
            } else {
                backend_->device_.use();
                backend_->passes_.host().set_flags_sent(false);  // this operation may set some
            }
        }
        /// Ends the operation: brings the flags back when it was alone.
        void close() {
            if (alone_) backend_->finish(*batch_);
        }
        const BatchView& view() const { return backend_->passes_.view(); }

      private:
        CudaBackend* backend_;
        const Batch* batch_;
        bool alone_;
    };

    void wait() const {
        device_.use();
        check(cudaStreamSynchronize(device_.stream()), "forward pass");
    }
    RotationView rotation_of(const exact::Rotation& rotation) const {
        return {rotation.block, rotation.m, rotation.dct ? device_.dct_table(rotation.m) : nullptr};
    }
    /// Room for rows that are longer than shared memory, null for others.
    float* row_scratch(int n_tokens, int n_cols) {
        if (size_of(n_cols) * sizeof(float) <= row_bytes_max_) return nullptr;
        wait();
        scratch_.reserve(size_of(n_tokens) * size_of(n_cols));
        return scratch_.data();
    }
    /// Those that the pass before draws are looked at where the batch is sent.
    static void check_tokens(const Batch& batch, int vocab_size) {
        for (const std::int32_t id : batch.tokens)
            ETALON_ASSERT(is_drawn_before(id) || id < vocab_size);
    }
    static void check_pages(const Batch& batch, int n_pages);
    const std::int32_t* send_rows(std::span<const std::int32_t> rows);
    ActivationsView gathered(const CudaActivations& x, const std::int32_t* rows, int n_rows);
    static int chunks_max(const Batch& batch, int sliding_window);
    float* state_room(std::size_t rows, const AttentionShape& shape, int dim_stride);
    bool half_products_are_exact() const;
    bool attend_fast(const Batch& batch, const BatchView& view, const CudaQueries& queries,
                     const CudaKvCache& kv, AttentionShape shape, float* o);

    Device device_;
    Loader loader_{device_.stream()};
    std::string name_;
    std::size_t row_bytes_max_;
    bool wide_attention_;  // attention_tile of sm90/ is right on this card
    Passes passes_;
    DeviceArray<float> scratch_;
    DeviceArray<float> states_;                             // of attention
    DeviceArray<std::byte> packets_;                        // of decode_layers
    DeviceArray<std::uint32_t> meetings_{kLayersMeetings};  // and its counters
    LayersTrials trials_;
    RoutingRoom routing_;
    DeviceArray<std::int32_t> rows_;  // of logits
    CudaActivations gathered_;        // the same rows of activations
    PinnedBytes host_rows_;
    Event rows_sent_;
    DeviceArray<std::uint64_t> sum_{1};
    Graphs graphs_;
    std::vector<DeviceRope> ropes_;

    const DeviceRope& rope_of(const RopeTables& rope);
    RopeView rope_view(const RopeTables& rope, int head_dim);
    bool matrix_wants_across(const LinearWeights& w, const Activations& x, int n_tokens) const {
        return wants_across(static_cast<const CudaLinear&>(w), x.forms, n_tokens, device_);
    }
    void norm_codes(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w, float eps,
                    const exact::Rotation& rotation, Activations& x, bool across);
    void plain_codes(const Batch& batch, const FloatBuffer& v, Activations& x, bool across);
    void rotate_quantize(const BatchView& view, const float* s, const RotationView& rotation,
                         CudaActivations& x, bool across);
    void run_pairs(const CudaExperts& experts, const ExpertsLayer& layer, RoutingView& routing,
                   int n_tokens);
    void try_layers(const Batch& batch, const BatchView& view, const LayersView& layers,
                    const Layers& operations, KvCache& cache, FloatBuffer& h);
};

}  // namespace etalon::backend::cuda

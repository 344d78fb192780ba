// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: memory, the state of a batch, and the launch of each operation.
#include <algorithm>
#include <bit>
#include <cstring>
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <utility>

#include "backend/cuda/buffers.h"
#include "backend/cuda/common/error.h"
#include "backend/cuda/common/event.h"
#include "backend/cuda/cuda.h"
#include "backend/cuda/decode_host.h"
#include "backend/cuda/device.h"
#include "backend/cuda/experts.h"
#include "backend/cuda/graphs.h"
#include "backend/cuda/layers_trial.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/passes.h"
#include "backend/cuda/read_back.h"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"
#include "exact/attention.h"
#include "exact/formats.h"

namespace etalon::backend {

namespace cuda {

namespace {

using exact::kBlock;
using exact::kPageTokens;

/// Rows of attention for each multiprocessor below which contexts are split by chunks.
constexpr int kAttentionRowsPerMultiprocessor = 32;
/// The same for blocks of attention_decode.
constexpr int kAttentionBlocksPerMultiprocessor = 4;
/// Warps of the kernel of sm_90 for each multiprocessor from which on it is the faster one.
constexpr int kManyPerMultiprocessor = 2;

std::size_t size_of(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

/// Whether `rows` are all tokens in order.
bool is_identity(std::span<const std::int32_t> rows, int n_tokens) noexcept {
    if (rows.size() != size_of(n_tokens)) return false;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows[i] != static_cast<std::int32_t>(i)) return false;
    }
    return true;
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

bool CudaBackend::begin(const Batch& batch, const Pass& pass) {
    begin(batch);
    const BatchView& view = passes_.view();
    // Generated tokens: each alone, all with logits. Prompts differ from one another, and their
    // kernels are long. draw() ends a recording; without it one would stay open beside the host.
    if (!can_draw(pass.vocab_size)) return false;
    if (view.n_tiles > 0 || pass.rows.empty() || !is_identity(pass.rows, batch.n_tokens()))
        return false;
    const auto& kv = static_cast<const CudaKvCache&>(*pass.kv);
    const GraphKey key{pass.model,
                       pass.logits->data(),
                       kv.view(),
                       view,
                       chunks_max(batch, pass.sliding_window),
                       trials_.n_trials(),
                       {states_.data(), scratch_.data(), packets_.data(),
                        packets_.data() + packets_.size(), device_.e8_rows(0), routing_.address(),
                        gathered_.row_q.data(), gathered_.row_scales.data()}};
    check_tokens(batch, pass.vocab_size);
    check_pages(batch, kv.shape.n_pages);
    if (!graphs_.begin(key, device_.stream())) return false;
    passes_.results().fetch(pass.logits->data(), batch.n_tokens(), pass.vocab_size);
    return true;
}

std::unique_ptr<Activations> CudaBackend::make_activations(int n_tokens_max, int n_cols,
                                                           unsigned forms) {
    ETALON_ASSERT(n_tokens_max >= 1 && n_cols >= 1);
    device_.use();
    loader_.release();  // what it holds is not in the plan of memory
    auto x = std::make_unique<CudaActivations>();
    x->n_tokens_max = n_tokens_max;
    x->n_cols = n_cols;
    x->forms = forms;
    const std::size_t n = size_of(n_tokens_max) * size_of(n_cols);
    const std::size_t bytes = size_of(n_tokens_max) * size_of(x->stride());
    if ((forms & kRowInt8) != 0) {
        x->row_q = DeviceArray<std::int8_t>(bytes);
        x->row_scales = DeviceArray<float>(size_of(n_tokens_max));
    }
    if ((forms & kBlockInt8) != 0) {
        ETALON_ASSERT(n_cols % kBlock == 0);
        x->block_q = DeviceArray<std::int8_t>(bytes);
        x->block_scales = DeviceArray<float>(n / kBlock);
        x->half_sums = DeviceArray<std::int16_t>(2 * n / kBlock);
    }
    if ((forms & kFloating) != 0) x->floats = DeviceArray<float>(n);
    return x;
}

std::unique_ptr<Queries> CudaBackend::make_queries(int n_tokens_max, int n_heads, int head_dim) {
    ETALON_ASSERT(n_tokens_max >= 1 && n_heads >= 1);
    ETALON_ASSERT(head_dim >= 1 && head_dim <= kHeadDimMax);
    device_.use();
    loader_.release();
    auto queries = std::make_unique<CudaQueries>();
    queries->n_tokens_max = n_tokens_max;
    queries->n_heads = n_heads;
    queries->head_dim = head_dim;
    const std::size_t n = size_of(n_tokens_max) * size_of(n_heads);
    queries->q = DeviceArray<std::int8_t>(n * size_of(queries->dim_stride()));
    queries->scales = DeviceArray<float>(n);
    return queries;
}

std::unique_ptr<KvCache> CudaBackend::make_kv_cache(const KvShape& shape) {
    ETALON_ASSERT(shape.n_layers >= 1 && shape.n_pages >= 1 && shape.n_kv_heads >= 1);
    ETALON_ASSERT(shape.head_dim >= 1 && shape.head_dim <= kHeadDimMax);
    device_.use();
    loader_.release();
    auto kv = std::make_unique<CudaKvCache>();
    kv->shape = shape;
    const std::size_t vectors =
        size_of(shape.n_layers) * size_of(shape.n_pages) * size_of(shape.n_kv_heads) * kPageTokens;
    const std::size_t bytes = vectors * size_of(kv->view().dim_stride);
    kv->keys = DeviceArray<std::int8_t>(bytes);
    kv->values = DeviceArray<std::int8_t>(bytes);
    kv->key_scales = DeviceArray<float>(vectors);
    kv->value_scales = DeviceArray<float>(vectors);
    return kv;
}

void CudaBackend::embed(const Batch& batch, const Embedding& base, FloatBuffer& h) {
    const auto& embedding = static_cast<const CudaEmbedding&>(base);
    ETALON_ASSERT(h.size() >= size_of(batch.n_tokens()) * size_of(embedding.dim));
    check_tokens(batch, embedding.vocab_size);
    Scope scope(*this, batch);
    passes_.results().forget(h.data());
    launch_embed(scope.view(), embedding.view(), h.data(), device_.stream());
    scope.close();
}

/// norm_quantize; with `across` where a kernel gives them so, which x.across tells.
void CudaBackend::norm_codes(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w,
                             float eps, const exact::Rotation& rotation, Activations& base,
                             bool across) {
    auto& x = static_cast<CudaActivations&>(base);
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max && w.size() >= size_of(x.n_cols));
    ETALON_ASSERT(h.size() >= size_of(batch.n_tokens()) * size_of(x.n_cols));
    Scope scope(*this, batch);
    const RotationView view = rotation_of(rotation);
    x.across = across;
    if (across && launch_norm_quantize_e8(scope.view(), h.data(), w.data(), eps, view, x.view(),
                                          device_.stream()))
        return scope.close();
    x.across = false;
    const bool launched = device_.has_sm90() && batch.n_tokens() >= kNormRowsMin &&
                          launch_norm_rows_sm90(scope.view(), h.data(), w.data(), eps, view,
                                                x.view(), device_.stream());
    if (!launched) {
        launch_norm_quantize(scope.view(), h.data(), w.data(), eps, view, x.view(),
                             row_scratch(batch.n_tokens(), x.n_cols), device_.stream());
    }
    scope.close();
}

/// The same of quantize.
void CudaBackend::plain_codes(const Batch& batch, const FloatBuffer& v, Activations& base,
                              bool across) {
    auto& x = static_cast<CudaActivations&>(base);
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max);
    ETALON_ASSERT(v.size() >= size_of(batch.n_tokens()) * size_of(x.n_cols));
    Scope scope(*this, batch);
    x.across = across;
    if (across && launch_quantize_e8(scope.view(), v.data(), x.view(), device_.stream()))
        return scope.close();
    x.across = false;
    launch_quantize(scope.view(), v.data(), x.view(), row_scratch(batch.n_tokens(), x.n_cols),
                    device_.stream());
    scope.close();
}

void CudaBackend::swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                                  const exact::Rotation& rotation, Activations& base) {
    auto& x = static_cast<CudaActivations&>(base);
    x.across = false;
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max);
    ETALON_ASSERT(gate_up.size() >= 2 * size_of(batch.n_tokens()) * size_of(x.n_cols));
    Scope scope(*this, batch);
    launch_swiglu_quantize(scope.view(), gate_up.data(), rotation_of(rotation), x.view(),
                           row_scratch(batch.n_tokens(), x.n_cols), device_.has_sm90(),
                           device_.stream());
    scope.close();
}

void CudaBackend::linear(const Batch& batch, const Activations& x, const LinearWeights& w,
                         Store store, FloatBuffer& y) {
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max);
    ETALON_ASSERT(y.size() >= size_of(batch.n_tokens()) * size_of(w.n_rows));
    device_.use();
    passes_.results().forget(y.data());
    const auto& input = static_cast<const CudaActivations&>(x);
    run_linear(static_cast<const CudaLinear&>(w), input.view(), input.forms, nullptr,
               batch.n_tokens(), store, y.data(), device_);
}

void CudaBackend::logits(const Batch& batch, const Activations& x, const LinearWeights& head,
                         std::span<const std::int32_t> rows, FloatBuffer& logits) {
    ETALON_ASSERT(logits.size() >= rows.size() * size_of(head.n_rows));
    for (const std::int32_t row : rows)
        ETALON_ASSERT(row >= 0 && row < batch.n_tokens());
    if (rows.empty()) return;
    device_.use();
    const auto& input = static_cast<const CudaActivations&>(x);
    const auto n = static_cast<int>(rows.size());
    const bool successive = std::adjacent_find(rows.begin(), rows.end(), [](int a, int b) {
                                return b != a + 1;
                            }) == rows.end();
    const auto& w = static_cast<const CudaLinear&>(head);
    const auto run = [&](const ActivationsView& x_rows, const std::int32_t* token_of) {
        run_linear(w, x_rows, input.forms, token_of, n, Store::replace, logits.data(), device_);
    };
    if (successive) {
        run(input.view().from(rows.front()), nullptr);
    } else if (w.forms_needed == kRowInt8 && device_.has_sm90()) {
        run(gathered(input, send_rows(rows), n), nullptr);  // the fast kernels read no list
    } else {
        run(input.view(), send_rows(rows));
    }
    passes_.results().forget(logits.data());
    if (passes_.holds(batch)) passes_.results().fetch(logits.data(), n, head.n_rows);
}

/// R and int8 of rows s, which takes_rotate_quantize_e8() takes on a card with kernels of sm90/.
void CudaBackend::rotate_quantize(const BatchView& view, const float* s,
                                  const RotationView& rotation, CudaActivations& x, bool across) {
    x.across = across;
    const bool launched = !across && view.n_tokens >= kRotateRowsMin &&
                          launch_rotate_rows_sm90(view, s, rotation, x.view(),
                                                  device_.n_multiprocessors(), device_.stream());
    if (!launched) launch_rotate_quantize_e8(view, s, rotation, x.view(), true, device_.stream());
}

/// SwiGLU is made where the products with gate and up are summed: the room has s [T, hidden_dim].
void CudaBackend::feed_forward(const Batch& batch, const FeedForward& layer, FloatBuffer& h) {
    const auto& gate_up = static_cast<const CudaLinear&>(*layer.gate_up);
    const int n_tokens = batch.n_tokens();
    const auto& x_dim = static_cast<const CudaActivations&>(*layer.x_dim);
    auto& x_hidden = static_cast<CudaActivations&>(*layer.x_hidden);
    const RotationView rotation = rotation_of(layer.hidden_rotation);
    const bool across = gate_up_wants_across(gate_up, x_dim.forms, n_tokens, device_) &&
                        takes_norm_quantize_e8(rotation_of(layer.dim_rotation), x_dim.view());
    const bool takes = can_gate_up_together(gate_up, x_dim.forms, across, n_tokens, device_) &&
                       takes_rotate_quantize_e8(rotation, x_hidden.view(), true);
    if (!takes) return Backend::feed_forward(batch, layer, h);
    ETALON_ASSERT(n_tokens <= x_dim.n_tokens_max && n_tokens <= x_hidden.n_tokens_max);
    ETALON_ASSERT(gate_up.n_cols == x_dim.n_cols && gate_up.n_rows == 2 * x_hidden.n_cols);
    FloatBuffer& s = *layer.gate_up_room;
    ETALON_ASSERT(s.size() >= size_of(n_tokens) * size_of(x_hidden.n_cols));
    norm_codes(batch, h, *layer.norm, layer.eps, layer.dim_rotation, *layer.x_dim, across);
    Scope scope(*this, batch);
    passes_.results().forget(s.data());
    run_gate_up(gate_up, x_dim.view(), n_tokens, s.data(), device_);
    rotate_quantize(scope.view(), s.data(), rotation, x_hidden,
                    matrix_wants_across(*layer.down, x_hidden, n_tokens));
    scope.close();
    linear(batch, x_hidden, *layer.down, Store::add, h);
}

/// expert_outputs[pairs, dim]: pairs are to the kernels what tokens are elsewhere. Notes in
/// `routing` whether it is settled for kernels behind.
void CudaBackend::run_pairs(const CudaExperts& experts, const ExpertsLayer& layer,
                            RoutingView& routing, int n_tokens) {
    const auto& x_dim = static_cast<const CudaActivations&>(*layer.x_dim);
    auto& x_hidden = static_cast<CudaActivations&>(*layer.x_hidden);
    const RotationView rotation = rotation_of(layer.hidden_rotation);
    const int n_pairs = n_tokens * experts.n_used;
    BatchView pairs;
    pairs.n_tokens = n_pairs;
    pairs.failed = routing.failed;
    float* room = layer.gate_up_room->data();
    if (takes_together(experts.gate_up, n_tokens) &&
        takes_rotate_quantize_e8(rotation, x_hidden.view(), true)) {
        run_experts_together(experts.gate_up, gathered(x_dim, routing.token_of, n_pairs), routing,
                             n_pairs, room, device_);
        rotate_quantize(pairs, room, rotation, x_hidden, false);
    } else {
        x_hidden.across = false;
        routing.settled = run_experts(experts.gate_up, experts.matrices.gate_up, x_dim, routing,
                                      routing.token_of, n_tokens, room, device_);
        launch_swiglu_quantize(pairs, room, rotation, x_hidden.view(),
                               row_scratch(n_pairs, x_hidden.n_cols), device_.has_sm90(),
                               device_.stream());
    }
    if (takes_together(experts.down, n_tokens)) {
        run_experts_together(experts.down, x_hidden.view(), routing, n_pairs,
                             layer.expert_outputs->data(), device_);
    } else {
        run_experts(experts.down, experts.matrices.down, x_hidden, routing, nullptr, n_tokens,
                    layer.expert_outputs->data(), device_);
    }
}

void CudaBackend::experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                                       FloatBuffer& h) {  // FWD-5
    const auto& experts = static_cast<const CudaExperts&>(*layer.experts);
    const auto& x_dim = static_cast<const CudaActivations&>(*layer.x_dim);
    const auto& x_hidden = static_cast<const CudaActivations&>(*layer.x_hidden);
    const int n_tokens = batch.n_tokens();
    const int n_pairs = n_tokens * experts.n_used;
    ETALON_ASSERT(n_tokens <= x_dim.n_tokens_max && n_pairs <= x_hidden.n_tokens_max);
    ETALON_ASSERT(layer.gate_up_room->size() >= 2 * size_of(n_pairs) * size_of(x_hidden.n_cols));
    ETALON_ASSERT(layer.expert_outputs->size() >= size_of(n_pairs) * size_of(x_dim.n_cols));
    norm_quantize(batch, h, *layer.norm, layer.eps, layer.dim_rotation, *layer.x_dim);
    if (!routing_.holds(n_tokens, experts)) {
        wait();
        routing_.reserve(n_tokens, experts);
    }
    Scope scope(*this, batch);
    for (const FloatBuffer* written : {&h, layer.gate_up_room, layer.expert_outputs})
        passes_.results().forget(written->data());
    RoutingView routing = routing_.view(n_tokens, experts);
    launch_experts_route(scope.view(), experts.router, x_dim.view(), routing, device_.stream());
    run_pairs(experts, layer, routing, n_tokens);
    launch_experts_join(scope.view(), routing, layer.expert_outputs->data(), x_dim.n_cols, h.data(),
                        device_.stream());
    scope.close();
}

void CudaBackend::draw(const Batch& batch, const FloatBuffer& logits, int vocab_size,
                       std::span<const Draw> draws, std::span<std::int32_t> tokens) {
    ETALON_ASSERT(draws.size() == tokens.size() && can_draw(vocab_size));
    ETALON_ASSERT(logits.size() >= draws.size() * size_of(vocab_size));
    Scope scope(*this, batch);
    graphs_.finish(device_.stream());  // parameters differ from pass to pass: not recorded
    Results& results = passes_.results();
    HostBatch& host = passes_.host();
    results.keep(logits.data(), draws);
    const DrawBack back{
        results.host_sums(logits.data(), draws.size(), size_of(vocab_size), device_.stream()),
        host.host_flags(), host.flags(), batch.n_tokens()};
    if (passes_.draws().start(logits.data(), vocab_size, draws, tokens, back, device_.has_sm90(),
                              device_.stream())) {
        host.set_flags_sent(true);
        if (back.sums != nullptr) results.set_sums_sent();
    }
    passes_.set_drawn();
    scope.close();
}

/// Puts `rows` on the card, where the stream reads them.
const std::int32_t* CudaBackend::send_rows(std::span<const std::int32_t> rows) {
    if (rows.size() > rows_.size()) {
        wait();
        rows_.grow(rows.size());
    }
    rows_sent_.wait();  // the copy before this one has left the host's buffer
    host_rows_.grow(rows.size_bytes());
    std::memcpy(host_rows_.data(), rows.data(), rows.size_bytes());
    check(cudaMemcpyAsync(rows_.data(), host_rows_.data(), rows.size_bytes(),
                          cudaMemcpyHostToDevice, device_.stream()),
          "rows of logits");
    rows_sent_.record(device_.stream());
    return rows_.data();
}

/// The int8 rows `rows` of x, on the card.
ActivationsView CudaBackend::gathered(const CudaActivations& x, const std::int32_t* rows,
                                      int n_rows) {
    gathered_.n_cols = x.n_cols;
    const std::size_t bytes = size_of(n_rows) * size_of(x.stride());
    if (bytes > gathered_.row_q.size() || size_of(n_rows) > gathered_.row_scales.size()) {
        wait();
        gathered_.row_q.grow(bytes);
        gathered_.row_scales.grow(size_of(n_rows));
    }
    gathered_.across = x.across;
    launch_gather_rows(x.view(), rows, n_rows, gathered_.view(), device_.stream());
    return gathered_.view();
}

/// Every token's position has a page of the cache.
void CudaBackend::check_pages(const Batch& batch, int n_pages) {
    for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
        const auto& table = batch.page_tables[size_of(batch.sequence_of[t])];
        ETALON_ASSERT(batch.positions[t] >= 0);
        const std::size_t page = size_of(batch.positions[t] / kPageTokens);
        ETALON_ASSERT(page < table.size());
        ETALON_ASSERT(table[page] >= 0 && table[page] < n_pages);
    }
}

/// A model has one set of tables, so this finds the first.
const DeviceRope& CudaBackend::rope_of(const RopeTables& rope) {
    for (const DeviceRope& known : ropes_) {
        if (known.tables.turns == rope.turns) return known;
    }
    constexpr std::size_t kKnownMax = 8;  // tests have many models, a process has one
    if (ropes_.size() == kKnownMax) {
        wait();
        graphs_.clear();
        ropes_.clear();
    }
    DeviceRope& added = ropes_.emplace_back();
    added.tables = rope;
    added.turns = DeviceArray<std::uint64_t>(rope.turns.size());
    added.turns.upload(rope.turns.data(), rope.turns.size());
    return added;
}

RopeView CudaBackend::rope_view(const RopeTables& rope, int head_dim) {
    return {rope_of(rope).turns.data(), static_cast<int>(rope.turns.size()), rope.magnitude,
            rope.pairing == exact::RopePairing::interleaved,
            exact::head_rotation_for(head_dim).block};
}

void CudaBackend::rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope,
                              int layer, KvCache& cache, Queries& out) {
    const auto& kv = static_cast<CudaKvCache&>(cache);
    const auto& queries = static_cast<CudaQueries&>(out);
    ETALON_ASSERT(kv.shape.head_dim == queries.head_dim && layer >= 0 && layer < kv.shape.n_layers);
    ETALON_ASSERT(2 * rope.turns.size() <= size_of(queries.head_dim));
    ETALON_ASSERT(batch.n_tokens() <= queries.n_tokens_max);
    const std::size_t row =
        size_of(queries.n_heads + 2 * kv.shape.n_kv_heads) * size_of(queries.head_dim);
    ETALON_ASSERT(qkv.size() >= size_of(batch.n_tokens()) * row);
    check_pages(batch, kv.shape.n_pages);
    Scope scope(*this, batch);
    launch_rope_append(scope.view(), qkv.data(), rope_view(rope, queries.head_dim), layer,
                       kv.view(), queries.view(), device_.stream());
    scope.close();
}

void CudaBackend::attention(const Batch& batch, const Queries& in, int layer, int sliding_window,
                            const KvCache& cache, FloatBuffer& o) {
    const auto& kv = static_cast<const CudaKvCache&>(cache);
    const auto& queries = static_cast<const CudaQueries&>(in);
    const std::size_t rows = size_of(batch.n_tokens()) * size_of(queries.n_heads);
    ETALON_ASSERT(kv.shape.head_dim == queries.head_dim && layer >= 0 && layer < kv.shape.n_layers);
    ETALON_ASSERT(queries.n_heads % kv.shape.n_kv_heads == 0 && sliding_window >= 0);
    ETALON_ASSERT(o.size() >= rows * size_of(queries.head_dim));
    passes_.results().forget(o.data());
    check_pages(batch, kv.shape.n_pages);
    AttentionShape shape{layer, sliding_window, exact::attention_constant(queries.head_dim), 0};
    Scope scope(*this, batch);
    if (!attend_fast(batch, scope.view(), queries, kv, shape, o.data())) {
        // Few rows: their contexts are split.
        const int n_chunks = chunks_max(batch, sliding_window);
        if (n_chunks > 1 &&
            rows < size_of(kAttentionRowsPerMultiprocessor) * size_of(device_.n_multiprocessors()))
            shape.n_chunks = n_chunks;
        launch_attention(scope.view(), queries.view(), kv.view(), shape,
                         state_room(rows, shape, queries.dim_stride()), o.data(), device_.stream());
    }
    scope.close();
}

/// Most chunks that a token of the batch sees keys of, up to a power of two: recorded passes then
/// serve contexts of many lengths.
int CudaBackend::chunks_max(const Batch& batch, int sliding_window) {
    std::int64_t n_chunks = 1;
    for (const std::int32_t position : batch.positions) {
        const auto visible = exact::visible_keys(position, sliding_window);
        n_chunks = std::max(
            n_chunks, visible.last / exact::kChunkTokens - visible.first / exact::kChunkTokens + 1);
    }
    return static_cast<int>(std::bit_ceil(static_cast<std::uint64_t>(n_chunks)));
}

/// Room for the states of so many rows.
float* CudaBackend::state_room(std::size_t rows, const AttentionShape& shape, int dim_stride) {
    const std::size_t floats = rows * size_of(shape.n_chunks) * attention_state_floats(dim_stride);
    if (floats > states_.size()) {
        wait();
        states_.grow(floats);
    }
    return states_.data();
}

/// Whether the tensor cores of this card sum products of binary16 as attention_tile of sm90/ needs
/// it: no document says so.
bool CudaBackend::half_products_are_exact() const {
    DeviceArray<std::uint32_t> wrong(1);
    std::uint32_t n_wrong = 0;
    wrong.upload(&n_wrong, 1);
    launch_half_products_sm90(wrong.data(), device_.stream());
    check(cudaStreamSynchronize(device_.stream()), "trial of the tensor cores");
    wrong.download(&n_wrong, 1);
    return n_wrong == 0;
}

/// The kernels of usual shapes; false where the batch needs the one for any shape.
bool CudaBackend::attend_fast(const Batch& batch, const BatchView& view, const CudaQueries& queries,
                              const CudaKvCache& kv, AttentionShape shape, float* o) {
    const int heads = queries.n_heads / kv.shape.n_kv_heads;
    if (queries.head_dim != 64 && queries.head_dim != 128) return false;
    const int heads_max = wide_attention_ ? kWideHeadsMax : kTileHeadsMax;
    if (heads > kDecodeHeadsMax || (view.n_tiles > 0 && heads > heads_max)) return false;
    const int n_chunks = chunks_max(batch, shape.sliding_window);
    if (view.n_tiles > 0 && wide_attention_) {
        launch_attention_tile_sm90(view, queries.view(), kv.view(), shape, o,
                                   device_.n_multiprocessors(), device_.stream());
    } else if (view.n_tiles > 0) {
        launch_attention_tile(view, queries.view(), kv.view(), shape, n_chunks > 1, o,
                              device_.stream());
    }
    if (view.n_singles == 0) return true;
    const int n_rows = view.n_singles * kv.shape.n_kv_heads;
    const bool many = device_.has_sm90() &&
                      n_rows * n_chunks >= kManyPerMultiprocessor * device_.n_multiprocessors();
    if (n_chunks > 1 &&
        (many || n_rows < kAttentionBlocksPerMultiprocessor * device_.n_multiprocessors()))
        shape.n_chunks = n_chunks;
    float* states =
        state_room(size_of(view.n_singles) * size_of(queries.n_heads), shape, queries.dim_stride());
    if (many) {
        launch_attention_decode_sm90(view, queries.view(), kv.view(), shape, states, o,
                                     device_.n_multiprocessors(), device_.stream());
    } else {
        launch_attention_decode(view, queries.view(), kv.view(), shape, states, o,
                                device_.stream());
    }
    if (shape.n_chunks > 0)
        launch_attention_join(view, queries.view(), shape, states, o, device_.stream());
    return true;
}

void CudaBackend::layers(const Batch& batch, const Layers& layers, KvCache& cache, FloatBuffer& h) {
    const auto& kv = static_cast<const CudaKvCache&>(cache);
    const auto n_tokens = size_of(batch.n_tokens());
    device_.use();
    auto view = layers_view(layers, rope_view(*layers.rope, layers.queries->head_dim), kv,
                            batch.n_tokens(), chunks_max(batch, layers.sliding_window), device_);
    if (!view) return Backend::layers(batch, layers, cache, h);
    ETALON_ASSERT(view->n_layers <= kv.shape.n_layers && kv.shape.head_dim == kLayersHeadDim);
    ETALON_ASSERT(h.size() >= n_tokens * size_of(view->dim));
    ETALON_ASSERT(layers.gate_up->size() >= n_tokens * size_of(view->hidden_dim));
    check_pages(batch, kv.shape.n_pages);
    passes_.results().forget(h.data());
    const std::size_t packets_bytes = n_tokens * layers_packets_bytes(*view);
    if (packets_bytes > packets_.size()) {
        wait();
        packets_.reserve(packets_bytes);
    }
    view->h = h.data();
    view->packets = packets_.data();
    view->packets_bytes = packets_.size();
    view->meetings = meetings_.data();
    const LayersTrials::State state = trials_.state(*view);
    // A trial waits for its results, which a recording cannot.
    const bool trusted = state == LayersTrials::State::trusted;
    if (state == LayersTrials::State::refused || (!trusted && graphs_.is_recording()))
        return Backend::layers(batch, layers, cache, h);
    Scope scope(*this, batch);
    if (trusted) {
        launch_decode_layers(scope.view(), *view, device_.n_multiprocessors(), device_.stream());
    } else {
        try_layers(batch, scope.view(), *view, layers, cache, h);
    }
    scope.close();
}

/// The kernel, and then from the same h the operations, whose results stay.
void CudaBackend::try_layers(const Batch& batch, const BatchView& view, const LayersView& layers,
                             const Layers& operations, KvCache& cache, FloatBuffer& h) {
    const auto result = [&] {
        wait();
        return read_layers_result(batch, view, static_cast<const CudaKvCache&>(cache), h,
                                  layers.dim);
    };
    const LayersResult before = result();
    launch_decode_layers(view, layers, device_.n_multiprocessors(), device_.stream());
    const LayersResult by_kernel = result();
    copy_to_device(h.data(), before.h.data(), before.h.size() * sizeof(float));
    copy_to_device(view.failed, before.failed.data(), before.failed.size());
    Backend::layers(batch, operations, cache, h);
    const bool equal = by_kernel == result();
    trials_.add(layers, equal);
    if (!equal) {
        fmt::print(stderr,
                   "etalon: {}: layers as one kernel gave other bits here: they are not used\n",
                   name_);
    }
}

std::uint64_t CudaBackend::checksum(const FloatBuffer& logits, std::size_t row, int vocab_size) {
    const std::size_t n = size_of(vocab_size);
    ETALON_ASSERT((row + 1) * n <= logits.size());
    if (const auto known = passes_.finished().checksum(logits.data(), row, n)) return *known;
    ETALON_ASSERT(!passes_.is_under_way());  // the rows may be another pass's by now
    device_.use();
    launch_checksum(logits.data() + row * n, 1, n, sum_.data(), device_.stream());
    wait();
    std::uint64_t sum = 0;
    sum_.download(&sum, 1);
    return sum;
}

HostActivations CudaBackend::read(const Activations& x, int n_tokens) {
    wait();
    return read_activations(static_cast<const CudaActivations&>(x), n_tokens);
}

HostVector CudaBackend::read_query(const Queries& queries, int token, int head) {
    wait();
    return cuda::read_query(static_cast<const CudaQueries&>(queries), token, head);
}

HostVector CudaBackend::read_key(const KvCache& kv, int layer, int page, int slot, int head) {
    wait();
    return cuda::read_key(static_cast<const CudaKvCache&>(kv), layer, page, slot, head);
}

HostVector CudaBackend::read_value(const KvCache& kv, int layer, int page, int slot, int head) {
    wait();
    return cuda::read_value(static_cast<const CudaKvCache&>(kv), layer, page, slot, head);
}

void CudaBackend::clear_page(KvCache& cache, int page) {
    const auto& kv = static_cast<CudaKvCache&>(cache);
    ETALON_ASSERT(page >= 0 && page < kv.shape.n_pages);
    device_.use();
    launch_clear_page(kv.view(), kv.shape.n_layers, page, device_.stream());
}

}  // namespace

}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(int index, CudaKernels kernels) {
    return std::make_unique<cuda::CudaBackend>(index, kernels);
}

}  // namespace etalon::backend

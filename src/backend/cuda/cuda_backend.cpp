// SPDX-License-Identifier: Apache-2.0
// The CUDA backend: memory, the state of a batch, and the launch of each operation.
#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "backend/cuda/read_back.h"
#include "exact/attention.h"
#include "exact/formats.h"

namespace etalon::backend {

namespace cuda {

using exact::kBlock;
using exact::kPageTokens;

namespace {

/// Whether `rows` are all tokens in order.
bool is_identity(std::span<const std::int32_t> rows, int n_tokens) noexcept {
    if (rows.size() != size_of(n_tokens)) return false;
    for (std::size_t i = 0; i < rows.size(); ++i) {
        if (rows[i] != static_cast<std::int32_t>(i)) return false;
    }
    return true;
}

}  // namespace

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
                             row_scratch(batch.n_tokens(), x.n_cols), device_.has_sm90(),
                             device_.stream());
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
                    device_.has_sm90(), device_.stream());
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

}  // namespace cuda

std::unique_ptr<Backend> make_cuda_backend(int index, CudaKernels kernels) {
    return std::make_unique<cuda::CudaBackend>(index, kernels);
}

}  // namespace etalon::backend

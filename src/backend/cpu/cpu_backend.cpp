// SPDX-License-Identifier: Apache-2.0
// The CPU backend: memory, the split of each operation over threads, and calls of the kernels of
// one instruction set.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>

#include "backend/cpu/activations.h"
#include "backend/cpu/attention.h"
#include "backend/cpu/expert_pairs.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_cache.h"
#include "backend/cpu/linear.h"
#include "backend/cpu/rope_cache.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "exact/formats.h"
#include "exact/norm.h"

namespace etalon::backend {

namespace cpu {

namespace {

using exact::kBlock;
using exact::kPageTokens;

/// Tasks for each thread in loops over tokens: few enough to cost nothing, enough to share evenly.
constexpr int kTasksPerThread = 4;
/// Elements of a half of a block, whose sums the linear layers use.
constexpr std::size_t kHalf = kBlock / 2;

std::size_t size_of(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

struct CpuFloats final : FloatBuffer {
    explicit CpuFloats(AlignedVector<float> floats)
        : FloatBuffer(floats.data(), floats.size()), storage(std::move(floats)) {}
    AlignedVector<float> storage;
};

/// Rows are read from the mapped file.
struct CpuEmbedding final : Embedding {
    weights::Tensor tensor;
    std::size_t row_bytes = 0;
};

class CpuBackend final : public Backend {
  public:
    CpuBackend(Isa isa, int n_threads)
        : kernels_(kernels_of(isa)), pool_(n_threads), scratch_(size_of(n_threads)), linear_(isa) {}

    std::string_view name() const override { return kernels_.name; }

    std::uint64_t linear_bytes(const weights::Tensor& tensor) const override {
        return linear_.bytes(tensor);
    }
    std::unique_ptr<LinearWeights> load_linear(std::span<const weights::Tensor* const> parts,
                                               std::span<const float> bias) override {
        return linear_.load(pool_, parts, bias);
    }
    std::unique_ptr<Experts> make_experts(ExpertMatrices matrices, int n_used) override {
        return std::make_unique<Experts>(std::move(matrices), n_used);
    }
    std::unique_ptr<Embedding> load_embedding(const weights::Tensor& tensor) override;
    std::unique_ptr<FloatBuffer> make_floats(std::size_t size) override {
        return std::make_unique<CpuFloats>(AlignedVector<float>(size));
    }
    std::unique_ptr<Activations> make_activations(int n_tokens_max, int n_cols,
                                                  unsigned forms) override;
    std::unique_ptr<Queries> make_queries(int n_tokens_max, int n_heads, int head_dim) override;
    std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape) override {
        return std::make_unique<CpuKvCache>(shape, kernels_.key_flip);
    }
    void upload(std::span<const float> from, FloatBuffer& to) override {
        ETALON_ASSERT(from.size() == to.size());
        std::copy(from.begin(), from.end(), to.data());
    }

    void embed(const Batch& batch, const Embedding& embedding, FloatBuffer& h) override;
    void norm_quantize(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w, float eps,
                       const exact::Rotation& rotation, Activations& x) override;
    void quantize(const Batch& batch, const FloatBuffer& v, Activations& x) override;
    void swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                         const exact::Rotation& rotation, Activations& x) override;

    void linear(const Batch& batch, const Activations& x, const LinearWeights& w, Store store,
                FloatBuffer& y) override {
        ETALON_ASSERT(y.size() >= size_of(batch.n_tokens()) * size_of(w.n_rows));
        multiply(x, w, batch.n_tokens(), {}, store, y);
    }
    void logits(const Batch& batch, const Activations& x, const LinearWeights& head,
                std::span<const std::int32_t> rows, FloatBuffer& logits) override {
        ETALON_ASSERT(logits.size() >= rows.size() * size_of(head.n_rows));
        if (!rows.empty()) multiply(x, head, batch.n_tokens(), rows, Store::replace, logits);
    }
    void experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                              FloatBuffer& h) override;
    void rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope, int layer,
                     KvCache& kv, Queries& queries) override;
    void attention(const Batch& batch, const Queries& queries, int layer, int sliding_window,
                   const KvCache& kv, FloatBuffer& o) override {
        const auto& q = static_cast<const CpuQueries&>(queries);
        ETALON_ASSERT(o.size() >=
                      size_of(batch.n_tokens()) * size_of(q.n_heads) * size_of(q.head_dim));
        attention_.run(kernels_, pool_, batch, q, layer, sliding_window,
                       static_cast<const CpuKvCache&>(kv), o.data());
    }

    void clear_page(KvCache& kv, int page) override {
        static_cast<CpuKvCache&>(kv).clear_page(page);
    }

    void download(const FloatBuffer& from, std::size_t offset, std::span<float> to) override {
        ETALON_ASSERT(offset <= from.size() && to.size() <= from.size() - offset);
        std::copy_n(from.data() + offset, to.size(), to.begin());
    }
    std::uint64_t checksum(const FloatBuffer& logits, std::size_t row, int vocab_size) override {
        const std::size_t n = size_of(vocab_size);
        ETALON_ASSERT((row + 1) * n <= logits.size());
        return kernels_.checksum(logits.data() + row * n, n);
    }
    std::uint32_t amax_bits(std::span<const float> row) const override {
        return kernels_.amax_bits(row.data(), row.size());
    }
    float largest(std::span<const float> row) const override {
        ETALON_ASSERT(!row.empty());
        return kernels_.largest(row.data(), row.size());
    }
    void probability_units(std::span<const float> logits, float largest, float inverse_temperature,
                           std::span<std::uint32_t> p) const override {
        ETALON_ASSERT(p.size() == logits.size());
        kernels_.probability_units(logits.data(), logits.size(), largest, inverse_temperature,
                                   p.data());
    }
    HostActivations read(const Activations& x, int n_tokens) override;
    HostVector read_query(const Queries& queries, int token, int head) override;
    HostVector read_key(const KvCache& kv, int layer, int page, int slot, int head) override {
        return static_cast<const CpuKvCache&>(kv).read_key(layer, page, slot, head);
    }
    HostVector read_value(const KvCache& kv, int layer, int page, int slot, int head) override {
        return static_cast<const CpuKvCache&>(kv).read_value(layer, page, slot, head);
    }

  private:
    void multiply(const Activations& x, const LinearWeights& w, int n_tokens,
                  std::span<const std::int32_t> rows, Store store, FloatBuffer& y) {
        ETALON_ASSERT((w.forms_needed & ~x.forms) == 0 && w.n_cols == x.n_cols);
        linear_.run(pool_, static_cast<const CpuActivations&>(x), w, n_tokens, rows, store,
                    y.data());
    }
    void run_experts(const Batch& batch, const ExpertPairs& pairs, const ExpertsLayer& layer);
    /// body(token, thread) for every token, neighbours by one thread.
    template <typename Body>
    void for_tokens(int n_tokens, const Body& body) {
        const int n_tasks = std::min(n_tokens, kTasksPerThread * pool_.n_threads());
        pool_.run(n_tasks, [&](int task, int thread) {
            const auto bound = [&](int i) {
                return static_cast<int>(std::int64_t{n_tokens} * i / n_tasks);
            };
            for (int t = bound(task); t < bound(task + 1); ++t)
                body(t, thread);
        });
    }
    /// Two padded rows of floats for each thread.
    void reserve_scratch(std::size_t row_floats) {
        for (AlignedVector<float>& floats : scratch_) {
            if (floats.size() < 2 * padded(row_floats)) floats.resize(2 * padded(row_floats));
        }
    }
    float* scratch(int thread) { return scratch_[size_of(thread)].data(); }

    bool fill_token(float* z, float scale, const exact::Rotation& rotation, int t, float* spare,
                    CpuActivations& x) const;
    static void clear_token(int t, CpuActivations& x);
    bool append_token(const Batch& batch, const float* qkv, int t, int layer, float* spare,
                      CpuKvCache& kv, CpuQueries& queries) const;

    const Kernels& kernels_;
    ThreadPool pool_;
    std::vector<AlignedVector<float>> scratch_;  // [n_threads]
    Linear linear_;
    RopeCache rope_;
    Attention attention_;
};

std::unique_ptr<Embedding> CpuBackend::load_embedding(const weights::Tensor& tensor) {
    auto embedding = std::make_unique<CpuEmbedding>();
    embedding->tensor = tensor;
    embedding->vocab_size = static_cast<int>(tensor.n_rows);
    embedding->dim = static_cast<int>(tensor.n_cols);
    const std::size_t dim = size_of(tensor.n_cols);
    if (tensor.format == exact::Format::e8) {
        embedding->row_bytes = dim;
        ETALON_ASSERT(tensor.scales.size() == size_of(tensor.n_rows) * sizeof(float));
    } else {
        const auto bytes = exact::row_bytes(tensor.format, dim);
        ETALON_ASSERT(bytes.has_value());
        embedding->row_bytes = *bytes;
    }
    ETALON_ASSERT(tensor.data.size() == size_of(tensor.n_rows) * embedding->row_bytes);
    return embedding;
}

std::unique_ptr<Activations> CpuBackend::make_activations(int n_tokens_max, int n_cols,
                                                          unsigned forms) {
    ETALON_ASSERT(n_tokens_max >= 1 && n_cols >= 1);
    auto x = std::make_unique<CpuActivations>();
    x->n_tokens_max = n_tokens_max;
    x->n_cols = n_cols;
    x->forms = forms;
    const std::size_t n = size_of(n_tokens_max) * size_of(n_cols);
    if ((forms & kRowInt8) != 0) {
        x->row_q.resize(n);
        x->row_scales.resize(size_of(n_tokens_max));
    }
    if ((forms & kBlockInt8) != 0) {
        ETALON_ASSERT(n_cols % kBlock == 0);
        x->block_q.resize(n);
        x->block_scales.resize(n / kBlock);
        x->half_sums.resize(n / kHalf);
    }
    if ((forms & kFloating) != 0) x->floats.resize(n);
    return x;
}

std::unique_ptr<Queries> CpuBackend::make_queries(int n_tokens_max, int n_heads, int head_dim) {
    ETALON_ASSERT(n_tokens_max >= 1 && n_heads >= 1);
    ETALON_ASSERT(head_dim >= 1 && size_of(head_dim) <= kHeadDimMax);
    auto queries = std::make_unique<CpuQueries>();
    queries->n_tokens_max = n_tokens_max;
    queries->n_heads = n_heads;
    queries->head_dim = head_dim;
    const std::size_t n = size_of(n_tokens_max) * size_of(n_heads);
    queries->q.resize(n * queries->head_stride());
    queries->scales.resize(n);
    queries->sums.resize(n);
    return queries;
}

void CpuBackend::embed(const Batch& batch, const Embedding& base, FloatBuffer& h) {
    const auto& embedding = static_cast<const CpuEmbedding&>(base);
    const weights::Tensor& tensor = embedding.tensor;
    const std::size_t dim = size_of(embedding.dim);
    ETALON_ASSERT(h.size() >= size_of(batch.n_tokens()) * dim);
    for_tokens(batch.n_tokens(), [&](int t, int) {
        const std::int32_t id = batch.tokens[size_of(t)];
        ETALON_ASSERT(id >= 0 && id < embedding.vocab_size);
        const auto row =
            tensor.data.subspan(size_of(id) * embedding.row_bytes, embedding.row_bytes);
        float* out = h.data() + size_of(t) * dim;
        if (tensor.format == exact::Format::e8) {
            float d = 0.0F;
            std::memcpy(&d, tensor.scales.data() + size_of(id) * sizeof(float), sizeof(float));
            kernels_.embed(reinterpret_cast<const std::int8_t*>(row.data()), d, dim, out);
        } else {
            exact::dequantize_row(tensor.format, row, {out, dim});
        }
    });
}

/// Fills the forms of token t from z, which is lost. Scales are multiplied with `scale` (NRM-3).
/// Returns false when an element is not finite (ERR-1).
bool CpuBackend::fill_token(float* z, float scale, const exact::Rotation& rotation, int t,
                            float* spare, CpuActivations& x) const {
    const std::size_t k = size_of(x.n_cols);
    const std::size_t row = size_of(t) * k;
    bool finite = true;
    if ((x.forms & kFloating) != 0) {
        finite = exact::amax_bits({z, k}) < exact::kInfinityBits;
        kernels_.scale(z, k, scale, x.floats.data() + row);
    }
    if ((x.forms & kBlockInt8) != 0) {
        float* scales = x.block_scales.data() + row / kBlock;
        finite = kernels_.quantize_blocks(z, k, x.block_q.data() + row, scales,
                                          x.half_sums.data() + row / kHalf) &&
                 finite;
        kernels_.scale(scales, k / kBlock, scale, scales);
    }
    if ((x.forms & kRowInt8) != 0) {
        if (!rotation.identity()) kernels_.rotate(rotation, z, spare);
        const exact::QuantizeResult result = kernels_.quantize(z, k, x.row_q.data() + row);
        x.row_scales[size_of(t)] = result.scale * scale;
        finite = finite && result.finite;
    }
    return finite;
}

/// ERR-1: a token that failed reads as zero from here on.
void CpuBackend::clear_token(int t, CpuActivations& x) {
    const std::size_t k = size_of(x.n_cols);
    const auto clear = [&](auto& all, std::size_t n) {
        if (!all.empty()) std::fill_n(all.data() + size_of(t) * n, n, 0);
    };
    clear(x.row_q, k);
    clear(x.row_scales, 1);
    clear(x.block_q, k);
    clear(x.block_scales, k / kBlock);
    clear(x.half_sums, k / kHalf);
    clear(x.floats, k);
}

void CpuBackend::norm_quantize(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w,
                               float eps, const exact::Rotation& rotation, Activations& base) {
    auto& x = static_cast<CpuActivations&>(base);
    const std::size_t k = size_of(x.n_cols);
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max && w.size() >= k);
    ETALON_ASSERT(h.size() >= size_of(batch.n_tokens()) * k);
    reserve_scratch(k);
    for_tokens(batch.n_tokens(), [&](int t, int thread) {
        float* z = scratch(thread);
        const float scale = kernels_.norm(h.data() + size_of(t) * k, w.data(), k, eps, z);
        const bool valid = exact::norm_scale_is_valid(scale) &&
                           fill_token(z, scale, rotation, t, z + padded(k), x);
        if (valid) return;
        batch.failed[size_of(t)] = 1;
        clear_token(t, x);
    });
}

void CpuBackend::quantize(const Batch& batch, const FloatBuffer& v, Activations& base) {
    auto& x = static_cast<CpuActivations&>(base);
    const std::size_t k = size_of(x.n_cols);
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max);
    ETALON_ASSERT(v.size() >= size_of(batch.n_tokens()) * k);
    const exact::Rotation none{x.n_cols, 1, x.n_cols, false};
    reserve_scratch(k);
    for_tokens(batch.n_tokens(), [&](int t, int thread) {
        float* z = scratch(thread);
        std::memcpy(z, v.data() + size_of(t) * k, k * sizeof(float));
        if (fill_token(z, 1.0F, none, t, z + padded(k), x)) return;
        batch.failed[size_of(t)] = 1;
        clear_token(t, x);
    });
}

void CpuBackend::swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                                 const exact::Rotation& rotation, Activations& base) {
    auto& x = static_cast<CpuActivations&>(base);
    const std::size_t k = size_of(x.n_cols);
    ETALON_ASSERT(batch.n_tokens() <= x.n_tokens_max);
    ETALON_ASSERT(gate_up.size() >= size_of(batch.n_tokens()) * 2 * k);
    reserve_scratch(k);
    for_tokens(batch.n_tokens(), [&](int t, int thread) {
        float* z = scratch(thread);
        const float* gate = gate_up.data() + size_of(t) * 2 * k;
        kernels_.swiglu(gate, gate + k, k, z);
        if (fill_token(z, 1.0F, rotation, t, z + padded(k), x)) return;
        batch.failed[size_of(t)] = 1;
        clear_token(t, x);
    });
}

/// expert_outputs[pairs, dim]. Each expert's matrices are read once, for all of its tokens.
void CpuBackend::run_experts(const Batch& batch, const ExpertPairs& pairs,
                             const ExpertsLayer& layer) {
    const auto& x_dim = static_cast<const CpuActivations&>(*layer.x_dim);
    const auto& x_hidden = static_cast<const CpuActivations&>(*layer.x_hidden);
    const ExpertMatrices& matrices = layer.experts->matrices;
    const std::size_t n_pairs = pairs.token_of.size();
    const auto run = [&](const CpuActivations& x, const LinearWeights& w, std::size_t first,
                         std::span<const std::int32_t> rows, FloatBuffer& y) {
        ETALON_ASSERT((w.forms_needed & ~x.forms) == 0 && w.n_cols == x.n_cols);
        ETALON_ASSERT(y.size() >= n_pairs * size_of(w.n_rows));
        if (rows.empty()) return;
        linear_.run(pool_, x, w, x.n_tokens_max, rows, Store::replace,
                    y.data() + first * size_of(w.n_rows));
    };
    for (std::size_t e = 0; e < matrices.gate_up.size(); ++e)
        run(x_dim, *matrices.gate_up[e], pairs.begin[e], pairs.tokens(e), *layer.gate_up_room);
    std::vector<std::uint8_t> failed(n_pairs);
    Batch as_tokens;
    as_tokens.tokens = pairs.token_of;
    as_tokens.failed = failed;
    swiglu_quantize(as_tokens, *layer.gate_up_room, layer.hidden_rotation, *layer.x_hidden);
    for (std::size_t pair = 0; pair < n_pairs; ++pair) {
        if (failed[pair] != 0) batch.failed[size_of(pairs.token_of[pair])] = 1;
    }
    std::vector<std::int32_t> all(n_pairs);
    std::iota(all.begin(), all.end(), 0);
    for (std::size_t e = 0; e < matrices.down.size(); ++e) {
        const std::size_t first = pairs.begin[e];
        run(x_hidden, *matrices.down[e], first,
            std::span(all).subspan(first, pairs.begin[e + 1] - first), *layer.expert_outputs);
    }
}

void CpuBackend::experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                                      FloatBuffer& h) {  // FWD-5
    const Experts& experts = *layer.experts;
    const std::size_t n_tokens = size_of(batch.n_tokens());
    const std::size_t n_experts = size_of(experts.n_experts());
    const std::size_t n_used = size_of(experts.n_used);
    ETALON_ASSERT(layer.router_logits->size() >= n_tokens * n_experts);
    norm_quantize(batch, h, *layer.norm, layer.eps, layer.dim_rotation, *layer.x_dim);
    linear(batch, *layer.x_dim, *experts.matrices.router, Store::replace, *layer.router_logits);
    const ExpertPairs pairs = pair_up({layer.router_logits->data(), n_tokens * n_experts},
                                      experts.n_experts(), experts.n_used, batch.failed);
    run_experts(batch, pairs, layer);
    const std::size_t dim = size_of(layer.x_dim->n_cols);
    for_tokens(batch.n_tokens(), [&](int t, int) {
        std::vector<const float*> y;
        for (const std::size_t pair : std::span(pairs.pair_of).subspan(size_of(t) * n_used, n_used))
            y.push_back(layer.expert_outputs->data() + pair * dim);
        kernels_.join_experts(y.data(), pairs.weight_of.data() + size_of(t) * n_used, n_used, dim,
                              h.data() + size_of(t) * dim);
    });
}

/// One token's heads: queries, then keys, then values. Returns false when one is not finite
/// (ERR-1).
bool CpuBackend::append_token(const Batch& batch, const float* qkv, int t, int layer, float* spare,
                              CpuKvCache& kv, CpuQueries& queries) const {
    const int head_dim = queries.head_dim;
    const std::size_t dims = size_of(head_dim);
    const std::int32_t position = batch.positions[size_of(t)];
    const auto& table = batch.page_tables[size_of(batch.sequence_of[size_of(t)])];
    ETALON_ASSERT(position >= 0 && size_of(position / kPageTokens) < table.size());
    const int page = table[size_of(position / kPageTokens)];
    const int slot = position % kPageTokens;
    const RopeHead rope = rope_.head(t, head_dim);
    bool finite = true;
    for (int i = 0; i < queries.n_heads; ++i, qkv += dims) {
        const std::size_t row = size_of(t) * size_of(queries.n_heads) + size_of(i);
        std::int8_t* q = queries.q.data() + row * queries.head_stride();
        kernels_.rope_head(rope, qkv, spare);  // RPE-6, ROT-6
        const auto result = kernels_.quantize(spare, dims, q);
        queries.scales[row] = result.scale;
        std::int32_t sum = 0;
        for (std::size_t d = 0; d < dims; ++d)
            sum += q[d];
        queries.sums[row] = sum;
        finite = finite && result.finite;
    }
    std::int8_t q[kHeadDimMax];
    for (int i = 0; i < kv.shape.n_kv_heads; ++i, qkv += dims) {
        kernels_.rope_head(rope, qkv, spare);
        const auto result = kernels_.quantize(spare, dims, q);
        kv.write_key(layer, page, slot, i, q, result.scale);
        finite = finite && result.finite;
    }
    for (int i = 0; i < kv.shape.n_kv_heads; ++i, qkv += dims) {
        const auto result = kernels_.quantize(qkv, dims, q);
        kv.write_value(layer, page, slot, i, q, result.scale);
        finite = finite && result.finite;
    }
    return finite;
}

void CpuBackend::rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope,
                             int layer, KvCache& cache, Queries& out) {
    auto& kv = static_cast<CpuKvCache&>(cache);
    auto& queries = static_cast<CpuQueries&>(out);
    ETALON_ASSERT(kv.shape.head_dim == queries.head_dim);
    ETALON_ASSERT(2 * rope.turns.size() <= size_of(queries.head_dim));
    ETALON_ASSERT(batch.n_tokens() <= queries.n_tokens_max);
    const std::size_t row =
        size_of(queries.n_heads + 2 * kv.shape.n_kv_heads) * size_of(queries.head_dim);
    ETALON_ASSERT(qkv.size() >= size_of(batch.n_tokens()) * row);
    rope_.prepare(rope, batch.positions, pool_);
    reserve_scratch(size_of(queries.head_dim));
    for_tokens(batch.n_tokens(), [&](int t, int thread) {
        const float* from = qkv.data() + size_of(t) * row;
        if (!append_token(batch, from, t, layer, scratch(thread), kv, queries)) {
            batch.failed[size_of(t)] = 1;
        }
    });
}

HostActivations CpuBackend::read(const Activations& base, int n_tokens) {
    const auto& x = static_cast<const CpuActivations&>(base);
    const std::size_t n = size_of(n_tokens);
    const std::size_t k = size_of(x.n_cols);
    HostActivations host;
    const auto copy = [](const auto& from, std::size_t size, auto& to) {
        if (!from.empty()) to.assign(from.data(), from.data() + size);
    };
    copy(x.row_q, n * k, host.row_q);
    copy(x.row_scales, n, host.row_scales);
    copy(x.block_q, n * k, host.block_q);
    copy(x.block_scales, n * (k / kBlock), host.block_scales);
    copy(x.floats, n * k, host.floats);
    return host;
}

HostVector CpuBackend::read_query(const Queries& base, int token, int head) {
    const auto& queries = static_cast<const CpuQueries&>(base);
    const std::size_t row = size_of(token) * size_of(queries.n_heads) + size_of(head);
    const std::int8_t* q = queries.q.data() + row * queries.head_stride();
    return {std::vector<std::int8_t>(q, q + queries.head_dim), queries.scales[row]};
}

}  // namespace

}  // namespace cpu

std::unique_ptr<Backend> make_cpu_backend(Isa isa, int n_threads) {
    return std::make_unique<cpu::CpuBackend>(isa, n_threads);
}

}  // namespace etalon::backend

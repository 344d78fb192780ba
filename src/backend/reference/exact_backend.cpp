// SPDX-License-Identifier: Apache-2.0
// The reference backend: each operation is a loop over tokens that calls src/exact and does nothing
// else. Slow and right; `run --prove` and the conformance suite compare every other backend with
// it.
#include <algorithm>
#include <cstring>

#include "backend/operations.h"
#include "base/error.h"
#include "base/thread_pool.h"
#include "exact/attention.h"
#include "exact/digest.h"
#include "exact/linear.h"
#include "exact/moe.h"
#include "exact/norm.h"
#include "exact/quantize.h"
#include "exact/swiglu.h"

namespace etalon::backend {

namespace {

using exact::Format;
using exact::FormatKind;
using exact::kBlock;
using exact::kPageTokens;

std::size_t sz(std::int64_t n) {
    return static_cast<std::size_t>(n);
}

struct ExactFloats final : FloatBuffer {
    explicit ExactFloats(std::vector<float> floats)
        : FloatBuffer(floats.data(), floats.size()), storage(std::move(floats)) {}
    std::vector<float> storage;
};

struct ExactActivations final : Activations {
    HostActivations host;
};

struct ExactQueries final : Queries {
    std::vector<HostVector> heads;  // [n_tokens_max, n_heads]
};

struct ExactKvCache final : KvCache {
    std::vector<HostVector> keys;  // [layer, page, slot, kv head]
    std::vector<HostVector> values;
    std::size_t index(int layer, int page, int slot, int head) const {
        ETALON_ASSERT(page >= 0 && page < shape.n_pages);
        return ((sz(layer) * sz(shape.n_pages) + sz(page)) * kPageTokens + sz(slot)) *
                   sz(shape.n_kv_heads) +
               sz(head);
    }
};

struct ExactEmbedding final : Embedding {
    weights::Tensor tensor;
};

/// One tensor of a stacked matrix. The rows of E8 and E4 become plain int8 at load.
struct Part {
    weights::Tensor tensor;
    std::vector<std::int8_t> q;  // e8, e4: [n_rows, n_cols]
    std::vector<float> d;        // e8, e4: [n_rows]
};

struct ExactLinear final : LinearWeights {
    std::vector<Part> parts;
    std::vector<float> bias;
};

// src/weights/layouts.md has the pictures of both files.
void read_e8_row(const weights::Tensor& tensor, std::size_t row, std::span<std::int8_t> q) {
    const auto* tiles = reinterpret_cast<const std::int8_t*>(tensor.data.data());
    for (std::size_t i = 0; i < q.size(); ++i) {
        const std::size_t line = row / 16 * (q.size() / 4) + i / 4;
        q[i] = tiles[line * 64 + row % 16 * 4 + i % 4];
    }
}

void read_e4_row(const weights::Tensor& tensor, std::size_t row, std::span<std::int8_t> q) {
    const std::size_t n_lines = q.size() / 32;
    std::vector<std::byte> codes(q.size() / 2);
    std::vector<std::byte> indices(n_lines);
    for (std::size_t i = 0; i < n_lines; ++i) {
        const std::size_t line = row / 4 * n_lines + i;
        indices[i] = tensor.indices[line * 4 + row % 4];
        const auto from = tensor.data.subspan(line * 64 + row % 4 * 16, 16);
        // A byte of the file holds the codes of elements 16 apart, one of FMT-17 of neighbours.
        for (std::size_t j = 0; j < 8; ++j) {
            constexpr std::byte kLow{15};
            codes[i * 16 + j] = (from[2 * j] & kLow) | (from[2 * j + 1] & kLow) << 4;
            codes[i * 16 + 8 + j] = from[2 * j] >> 4 | (from[2 * j + 1] & ~kLow);
        }
    }
    exact::decode_e4(codes, indices, q);
}

Part load_part(const weights::Tensor& tensor) {
    Part part{tensor, {}, {}};
    if (form_of(tensor.format) != kRowInt8) return part;
    const std::size_t k = sz(tensor.n_cols);
    part.q.resize(sz(tensor.n_rows) * k);
    part.d.resize(sz(tensor.n_rows));
    std::memcpy(part.d.data(), tensor.scales.data(), part.d.size() * sizeof(float));
    const auto read = tensor.format == Format::e4 ? read_e4_row : read_e8_row;
    for (std::size_t row = 0; row < part.d.size(); ++row)
        read(tensor, row, std::span(part.q).subspan(row * k, k));
    return part;
}

/// Products of one weight row with some tokens: out[i] belongs to tokens[i].
void row_times_tokens(const Part& part, std::size_t row, const ExactActivations& x,
                      std::span<const std::int32_t> tokens, std::span<float> out) {
    const std::size_t k = sz(part.tensor.n_cols);
    const auto token_span = [&](const auto& all, std::size_t i, std::size_t n) {
        return std::span(all).subspan(sz(tokens[i]) * n, n);
    };
    if (form_of(part.tensor.format) == kRowInt8) {
        const std::span<const std::int8_t> w = std::span(part.q).subspan(row * k, k);
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            const std::int32_t sum = exact::dot_i8(w, token_span(x.host.row_q, i, k));
            out[i] = exact::scale_sum(sum, x.host.row_scales[sz(tokens[i])], part.d[row]);
        }
        return;
    }
    const std::size_t bytes = *exact::row_bytes(part.tensor.format, k);
    const auto data = part.tensor.data.subspan(row * bytes, bytes);
    if (form_of(part.tensor.format) == kBlockInt8) {
        std::vector<exact::Block32> blocks(k / kBlock);
        for (std::size_t b = 0; b < blocks.size(); ++b) {
            blocks[b] = exact::decode_block32(part.tensor.format, data, b);
        }
        const bool has_minimum = exact::format_has_minimum(part.tensor.format);
        for (std::size_t i = 0; i < tokens.size(); ++i) {
            out[i] = exact::linear_blocked(has_minimum, blocks, token_span(x.host.block_q, i, k),
                                           token_span(x.host.block_scales, i, k / kBlock));
        }
        return;
    }
    std::vector<float> w(k);
    exact::dequantize_row(part.tensor.format, data, w);
    for (std::size_t i = 0; i < tokens.size(); ++i) {
        out[i] = exact::dot_lanes(w, token_span(x.host.floats, i, k));  // LIN-7
    }
}

/// Fills the forms of token t from z; every scale is multiplied with `scale` (1 without a norm).
bool fill_token(std::span<const float> z, float scale, const exact::Rotation& rotation, int t,
                ExactActivations& x) {
    const std::size_t k = z.size();
    bool finite = true;
    if ((x.forms & kRowInt8) != 0) {
        std::vector<float> rotated(z.begin(), z.end());
        std::vector<float> scratch(k);
        exact::rotate(rotation, rotated, scratch);
        const auto q = std::span(x.host.row_q).subspan(sz(t) * k, k);
        const exact::QuantizeResult result = exact::quantize(rotated, q);
        x.host.row_scales[sz(t)] = result.scale * scale;  // NRM-3
        finite = finite && result.finite;
    }
    if ((x.forms & kBlockInt8) != 0) {
        const auto q = std::span(x.host.block_q).subspan(sz(t) * k, k);
        const auto scales =
            std::span(x.host.block_scales).subspan(sz(t) * (k / kBlock), k / kBlock);
        finite = exact::quantize_blocks(z, q, scales) && finite;
        for (float& a : scales)
            a = a * scale;  // NRM-3
    }
    if ((x.forms & kFloating) != 0) {
        finite = exact::amax_bits(z) < exact::kInfinityBits && finite;
        for (std::size_t i = 0; i < k; ++i)
            x.host.floats[sz(t) * k + i] = z[i] * scale;
    }
    return finite;
}

/// ERR-1: a token that failed reads as zero from here on.
void clear_token(int t, ExactActivations& x) {
    const std::size_t k = sz(x.n_cols);
    const auto clear = [&](auto& all, std::size_t n) {
        if (!all.empty()) std::fill_n(all.begin() + static_cast<std::ptrdiff_t>(sz(t) * n), n, 0);
    };
    clear(x.host.row_q, k);
    clear(x.host.row_scales, 1);
    clear(x.host.block_q, k);
    clear(x.host.block_scales, k / kBlock);
    clear(x.host.floats, k);
}

class ExactBackend final : public Backend {
  public:
    explicit ExactBackend(int n_threads) : pool_(n_threads) {}

    std::string_view name() const override { return "exact"; }

    std::uint64_t linear_bytes(const weights::Tensor& tensor) const override {
        if (form_of(tensor.format) != kRowInt8) return tensor.data.size();
        return tensor.bytes() + sz(tensor.n_rows) * (sz(tensor.n_cols) + sizeof(float));
    }
    std::unique_ptr<LinearWeights> load_linear(std::span<const weights::Tensor* const> parts,
                                               std::span<const float> bias) override {
        auto linear = std::make_unique<ExactLinear>();
        for (const weights::Tensor* tensor : parts) {
            linear->parts.push_back(load_part(*tensor));
            linear->n_rows += static_cast<int>(tensor->n_rows);
            linear->n_cols = static_cast<int>(tensor->n_cols);
            linear->forms_needed |= form_of(tensor->format);
        }
        ETALON_ASSERT(bias.empty() || bias.size() == sz(linear->n_rows));
        linear->bias.assign(bias.begin(), bias.end());
        return linear;
    }

    std::unique_ptr<Experts> make_experts(ExpertMatrices matrices, int n_used) override {
        return std::make_unique<Experts>(std::move(matrices), n_used);
    }
    std::unique_ptr<Embedding> load_embedding(const weights::Tensor& tensor) override {
        auto embedding = std::make_unique<ExactEmbedding>();
        embedding->tensor = tensor;
        embedding->vocab_size = static_cast<int>(tensor.n_rows);
        embedding->dim = static_cast<int>(tensor.n_cols);
        return embedding;
    }

    std::unique_ptr<FloatBuffer> make_floats(std::size_t size) override {
        return std::make_unique<ExactFloats>(std::vector<float>(size));
    }

    std::unique_ptr<Activations> make_activations(int n_tokens_max, int n_cols,
                                                  unsigned forms) override {
        auto x = std::make_unique<ExactActivations>();
        x->n_tokens_max = n_tokens_max;
        x->n_cols = n_cols;
        x->forms = forms;
        const std::size_t n = sz(n_tokens_max) * sz(n_cols);
        if ((forms & kRowInt8) != 0) {
            x->host.row_q.resize(n);
            x->host.row_scales.resize(sz(n_tokens_max));
        }
        if ((forms & kBlockInt8) != 0) {
            ETALON_ASSERT(n_cols % kBlock == 0);
            x->host.block_q.resize(n);
            x->host.block_scales.resize(n / kBlock);
        }
        if ((forms & kFloating) != 0) x->host.floats.resize(n);
        return x;
    }

    std::unique_ptr<Queries> make_queries(int n_tokens_max, int n_heads, int head_dim) override {
        auto queries = std::make_unique<ExactQueries>();
        queries->n_tokens_max = n_tokens_max;
        queries->n_heads = n_heads;
        queries->head_dim = head_dim;
        queries->heads.resize(sz(n_tokens_max) * sz(n_heads),
                              {std::vector<std::int8_t>(sz(head_dim)), 0.0F});
        return queries;
    }

    std::unique_ptr<KvCache> make_kv_cache(const KvShape& shape) override {
        auto kv = std::make_unique<ExactKvCache>();
        kv->shape = shape;
        const std::size_t n =
            sz(shape.n_layers) * sz(shape.n_pages) * kPageTokens * sz(shape.n_kv_heads);
        kv->keys.resize(n);
        kv->values.resize(n);
        return kv;
    }

    void upload(std::span<const float> from, FloatBuffer& to) override {
        ETALON_ASSERT(from.size() == to.size());
        std::copy(from.begin(), from.end(), to.data());
    }

    void embed(const Batch& batch, const Embedding& embedding, FloatBuffer& h) override {
        const auto& tensor = static_cast<const ExactEmbedding&>(embedding).tensor;
        const std::size_t dim = sz(embedding.dim);
        for (int t = 0; t < batch.n_tokens(); ++t) {
            const std::size_t id = sz(batch.tokens[sz(t)]);
            ETALON_ASSERT(id < sz(embedding.vocab_size));
            const std::span<float> out(h.data() + sz(t) * dim, dim);
            if (tensor.format == Format::e8) {  // EMB-1
                float d = 0.0F;
                std::memcpy(&d, tensor.scales.data() + id * sizeof(float), sizeof(float));
                const auto* q = reinterpret_cast<const std::int8_t*>(tensor.data.data()) + id * dim;
                for (std::size_t i = 0; i < dim; ++i)
                    out[i] = static_cast<float>(q[i]) * d;
            } else {
                const std::size_t bytes = *exact::row_bytes(tensor.format, dim);
                exact::dequantize_row(tensor.format, tensor.data.subspan(id * bytes, bytes), out);
            }
        }
    }

    void norm_quantize(const Batch& batch, const FloatBuffer& h, const FloatBuffer& w, float eps,
                       const exact::Rotation& rotation, Activations& activations) override {
        auto& x = static_cast<ExactActivations&>(activations);
        const std::size_t k = sz(x.n_cols);
        pool_.run(batch.n_tokens(), [&](int t, int) {
            const std::span<const float> row(h.data() + sz(t) * k, k);
            std::vector<float> z(k);
            exact::norm_weigh(row, {w.data(), k}, z);  // NRM-2
            const float scale = exact::norm_scale(row, eps);
            const bool valid = exact::norm_scale_is_valid(scale);  // ERR-1
            if (!fill_token(z, scale, rotation, t, x) || !valid) fail(batch, t, x);
        });
    }

    void quantize(const Batch& batch, const FloatBuffer& v, Activations& activations) override {
        auto& x = static_cast<ExactActivations&>(activations);
        const std::size_t k = sz(x.n_cols);
        const exact::Rotation none{x.n_cols, 1, x.n_cols, false};
        pool_.run(batch.n_tokens(), [&](int t, int) {
            if (!fill_token({v.data() + sz(t) * k, k}, 1.0F, none, t, x)) fail(batch, t, x);
        });
    }

    void swiglu_quantize(const Batch& batch, const FloatBuffer& gate_up,
                         const exact::Rotation& rotation, Activations& activations) override {
        auto& x = static_cast<ExactActivations&>(activations);
        const std::size_t k = sz(x.n_cols);
        pool_.run(batch.n_tokens(), [&](int t, int) {
            const float* gate = gate_up.data() + sz(t) * 2 * k;
            std::vector<float> z(k);
            for (std::size_t i = 0; i < k; ++i)
                z[i] = exact::swiglu(gate[i], gate[k + i]);
            if (!fill_token(z, 1.0F, rotation, t, x)) fail(batch, t, x);
        });
    }

    void linear(const Batch& batch, const Activations& x, const LinearWeights& w, Store store,
                FloatBuffer& y) override {
        std::vector<std::int32_t> rows(sz(batch.n_tokens()));
        for (std::size_t t = 0; t < rows.size(); ++t)
            rows[t] = static_cast<std::int32_t>(t);
        multiply(x, w, rows, store, y);
    }

    void logits(const Batch&, const Activations& x, const LinearWeights& head,
                std::span<const std::int32_t> rows, FloatBuffer& out) override {
        multiply(x, head, rows, Store::replace, out);
    }

    /// One token after the other, and each of its experts alone.
    void experts_feed_forward(const Batch& batch, const ExpertsLayer& layer,
                              FloatBuffer& h) override {  // FWD-5
        const ExpertMatrices& matrices = layer.experts->matrices;
        const std::size_t n_experts = sz(layer.experts->n_experts());
        norm_quantize(batch, h, *layer.norm, layer.eps, layer.dim_rotation, *layer.x_dim);
        linear(batch, *layer.x_dim, *matrices.router, Store::replace, *layer.router_logits);
        const std::size_t dim = sz(layer.x_dim->n_cols);
        for (std::int32_t t = 0; t < batch.n_tokens(); ++t) {
            const std::span<float> logits(layer.router_logits->data() + sz(t) * n_experts,
                                          n_experts);
            if (!exact::settle_router_logits(logits)) batch.failed[sz(t)] = 1;  // MOE-4
            std::vector<float> acc(dim);
            for (const auto& [expert, weight] : exact::route(logits, layer.experts->n_used)) {
                const std::size_t e = sz(expert);
                run_expert(batch, layer, t, *matrices.gate_up[e], *matrices.down[e]);
                exact::accumulate_expert(weight, {layer.expert_outputs->data(), dim}, acc);
            }
            for (std::size_t i = 0; i < dim; ++i)
                h.data()[sz(t) * dim + i] += acc[i];  // RES-1
        }
    }

    void rope_append(const Batch& batch, const FloatBuffer& qkv, const RopeTables& rope, int layer,
                     KvCache& cache, Queries& out) override {
        auto& kv = static_cast<ExactKvCache&>(cache);
        auto& queries = static_cast<ExactQueries&>(out);
        const int n_kv = kv.shape.n_kv_heads;
        const std::size_t d = sz(queries.head_dim);
        pool_.run(batch.n_tokens(), [&](int t, int) {
            const std::int32_t position = batch.positions[sz(t)];
            std::vector<float> cosines(rope.turns.size());
            std::vector<float> sines(rope.turns.size());
            exact::rope_table(rope.turns, rope.magnitude, position, cosines, sines);
            const float* head = qkv.data() + sz(t) * sz(queries.n_heads + 2 * n_kv) * d;
            const int page = page_of(batch, t, position);
            for (int i = 0; i < queries.n_heads + 2 * n_kv; ++i, head += d) {
                std::vector<float> v(head, head + d);
                const int kv_head = i - queries.n_heads;
                if (kv_head < n_kv) {                                    // queries and keys
                    exact::rope_apply(rope.pairing, cosines, sines, v);  // RPE-6
                    exact::butterfly(exact::head_rotation_for(queries.head_dim).block, v);  // ROT-6
                }
                HostVector& target =
                    kv_head < 0 ? queries.heads[sz(t) * sz(queries.n_heads) + sz(i)]
                    : kv_head < n_kv
                        ? kv.keys[kv.index(layer, page, position % kPageTokens, kv_head)]
                        : kv.values[kv.index(layer, page, position % kPageTokens, kv_head - n_kv)];
                target.q.resize(d);
                const exact::QuantizeResult result = exact::quantize(v, target.q);
                target.scale = result.scale;
                if (!result.finite) batch.failed[sz(t)] = 1;  // ERR-1
            }
        });
    }

    void attention(const Batch& batch, const Queries& in, int layer, int sliding_window,
                   const KvCache& cache, FloatBuffer& o) override {
        const auto& kv = static_cast<const ExactKvCache&>(cache);
        const auto& queries = static_cast<const ExactQueries&>(in);
        const std::size_t d = sz(queries.head_dim);
        const int group = queries.n_heads / kv.shape.n_kv_heads;
        pool_.run(batch.n_tokens(), [&](int t, int) {
            const auto visible = exact::visible_keys(batch.positions[sz(t)], sliding_window);
            for (int head = 0; head < queries.n_heads; ++head) {
                const auto reader = [&](const std::vector<HostVector>& all) {
                    return [&, head](std::int64_t position) {
                        const int page = page_of(batch, t, position);
                        const int slot = static_cast<int>(position % kPageTokens);
                        const HostVector& v = all[kv.index(layer, page, slot, head / group)];
                        return exact::CachedVector{v.q, v.scale};
                    };
                };
                const HostVector& q = queries.heads[sz(t) * sz(queries.n_heads) + sz(head)];
                const std::span<float> out(o.data() + (sz(t) * sz(queries.n_heads) + sz(head)) * d,
                                           d);
                if (!exact::attend(q.q, q.scale, reader(kv.keys), reader(kv.values), visible,
                                   out)) {
                    batch.failed[sz(t)] = 1;  // ERR-2
                }
            }
        });
    }

    void clear_page(KvCache& cache, int page) override {
        auto& kv = static_cast<ExactKvCache&>(cache);
        const std::size_t n = sz(kPageTokens) * sz(kv.shape.n_kv_heads);
        const HostVector zero{std::vector<std::int8_t>(sz(kv.shape.head_dim)), 0.0F};
        for (int layer = 0; layer < kv.shape.n_layers; ++layer) {
            const std::size_t first = kv.index(layer, page, 0, 0);
            for (std::size_t i = first; i < first + n; ++i) {
                kv.keys[i] = zero;
                kv.values[i] = zero;
            }
        }
    }

    void download(const FloatBuffer& from, std::size_t offset, std::span<float> to) override {
        ETALON_ASSERT(offset <= from.size() && to.size() <= from.size() - offset);
        std::copy_n(from.data() + offset, to.size(), to.begin());
    }

    std::uint64_t checksum(const FloatBuffer& logits, std::size_t row, int vocab_size) override {
        ETALON_ASSERT((row + 1) * sz(vocab_size) <= logits.size());
        return exact::logits_checksum({logits.data() + row * sz(vocab_size), sz(vocab_size)});
    }

    HostActivations read(const Activations& activations, int n_tokens) override {
        HostActivations host = static_cast<const ExactActivations&>(activations).host;
        const std::size_t n = sz(n_tokens);
        const std::size_t k = sz(activations.n_cols);
        const auto shrink = [](auto& all, std::size_t size) {
            if (!all.empty()) all.resize(size);
        };
        shrink(host.row_q, n * k);
        shrink(host.row_scales, n);
        shrink(host.block_q, n * k);
        shrink(host.block_scales, n * (k / kBlock));
        shrink(host.floats, n * k);
        return host;
    }

    HostVector read_query(const Queries& queries, int token, int head) override {
        return static_cast<const ExactQueries&>(queries)
            .heads[sz(token) * sz(queries.n_heads) + sz(head)];
    }
    HostVector read_key(const KvCache& cache, int layer, int page, int slot, int head) override {
        const auto& kv = static_cast<const ExactKvCache&>(cache);
        return kv.keys[kv.index(layer, page, slot, head)];
    }
    HostVector read_value(const KvCache& cache, int layer, int page, int slot, int head) override {
        const auto& kv = static_cast<const ExactKvCache&>(cache);
        return kv.values[kv.index(layer, page, slot, head)];
    }

  private:
    static int page_of(const Batch& batch, int t, std::int64_t position) {
        const auto& table = batch.page_tables[sz(batch.sequence_of[sz(t)])];
        ETALON_ASSERT(sz(position / kPageTokens) < table.size());
        return table[sz(position / kPageTokens)];
    }

    static void fail(const Batch& batch, int t, ExactActivations& x) {
        batch.failed[sz(t)] = 1;
        clear_token(t, x);
    }

    /// The output of one expert for token t, in the first row of expert_outputs.
    void run_expert(const Batch& batch, const ExpertsLayer& layer, std::int32_t t,
                    const LinearWeights& gate_up, const LinearWeights& down) {
        constexpr std::int32_t kFirst = 0;
        multiply(*layer.x_dim, gate_up, {&t, 1}, Store::replace, *layer.gate_up_room);
        Batch one;
        one.tokens = batch.tokens.subspan(sz(t), 1);
        one.failed = batch.failed.subspan(sz(t), 1);
        swiglu_quantize(one, *layer.gate_up_room, layer.hidden_rotation, *layer.x_hidden);
        multiply(*layer.x_hidden, down, {&kFirst, 1}, Store::replace, *layer.expert_outputs);
    }

    /// y[i, row] for token rows[i] (LIN-3, RES-1).
    void multiply(const Activations& activations, const LinearWeights& weights,
                  std::span<const std::int32_t> rows, Store store, FloatBuffer& y) {
        const auto& x = static_cast<const ExactActivations&>(activations);
        const auto& w = static_cast<const ExactLinear&>(weights);
        ETALON_ASSERT((w.forms_needed & ~x.forms) == 0 && w.n_cols == x.n_cols);
        ETALON_ASSERT(y.size() >= rows.size() * sz(w.n_rows));
        std::size_t first_row = 0;
        for (const Part& part : w.parts) {
            pool_.run(static_cast<int>(part.tensor.n_rows), [&](int r, int) {
                std::vector<float> products(rows.size());
                row_times_tokens(part, sz(r), x, rows, products);
                const std::size_t row = first_row + sz(r);
                for (std::size_t i = 0; i < rows.size(); ++i) {
                    float value = products[i];
                    if (!w.bias.empty()) value = value + w.bias[row];
                    float& target = y.data()[i * sz(w.n_rows) + row];
                    target = store == Store::add ? target + value : value;  // RES-1
                }
            });
            first_row += sz(part.tensor.n_rows);
        }
    }

    ThreadPool pool_;
};

}  // namespace

std::unique_ptr<Backend> make_exact_backend(int n_threads) {
    return std::make_unique<ExactBackend>(n_threads);
}

}  // namespace etalon::backend

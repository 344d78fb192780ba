// SPDX-License-Identifier: Apache-2.0
// The live digest of docs/live.md. A backend keeps weights in an order of its own, so they are not
// read but used: what integer-exact matrices give for inputs that nobody could foresee depends on
// every weight, and is the same on every device.
#include <algorithm>
#include <numeric>
#include <string_view>
#include <vector>

#include "exact/attention.h"
#include "model/transformer.h"

namespace etalon::model {

namespace {

constexpr int kProbes = 16;  // inputs of each matrix
constexpr std::string_view kLabel = "etalon-live-1";

template <class Value>
std::span<const std::byte> bytes_of(const Value& value) {
    return std::as_bytes(std::span(&value, 1));
}

/// Tokens of a batch that stands for no text.
struct PlainBatch {
    explicit PlainBatch(std::size_t n)
        : tokens(n), positions(n), sequence_of(n), page_tables(1), failed(n) {
        std::iota(positions.begin(), positions.end(), 0);
        page_tables[0].resize(n / exact::kPageTokens + 1);
    }
    backend::Batch view() { return {tokens, positions, sequence_of, page_tables, failed}; }

    std::vector<std::int32_t> tokens;
    std::vector<std::int32_t> positions;
    std::vector<std::int32_t> sequence_of;
    std::vector<std::vector<std::int32_t>> page_tables;
    std::vector<std::uint8_t> failed;
};

/// One run over all weights: what is added in order, and the buffers between.
class LiveHash {
  public:
    LiveHash(backend::Backend& device, int n_tokens_max, const LiveNonce& nonce)
        : device_(&device), n_tokens_max_(n_tokens_max), nonce_(nonce) {
        hash_.update(kLabel);
        hash_.update(std::as_bytes(std::span(nonce_)));
    }

    void add(const backend::LinearWeights& matrix) {
        const auto n_cols = static_cast<std::size_t>(matrix.n_cols);
        const auto n_rows = static_cast<std::size_t>(matrix.n_rows);
        const int n_at_once = std::min(kProbes, n_tokens_max_);
        const auto n = static_cast<std::size_t>(n_at_once);
        const auto v = device_->make_floats(n * n_cols);
        const auto y = device_->make_floats(n * n_rows);
        const auto x = device_->make_activations(n_at_once, matrix.n_cols, matrix.forms_needed);
        for (int probe = 0; probe < kProbes; probe += n_at_once) {
            const int n_now = std::min(n_at_once, kProbes - probe);
            PlainBatch batch(static_cast<std::size_t>(n_now));
            std::vector<float> inputs;
            for (int i = 0; i < n_now; ++i)
                draw(probe + i, n_cols, inputs);
            inputs.resize(v->size());
            device_->upload(inputs, *v);
            device_->quantize(batch.view(), *v, *x);
            device_->linear(batch.view(), *x, matrix, backend::Store::replace, *y);
            add(*y, static_cast<std::size_t>(n_now) * n_rows);
        }
        ++n_matrices_;
    }

    void add(const backend::Embedding& embedding, backend::FloatBuffer& h) {
        const auto dim = static_cast<std::size_t>(embedding.dim);
        for (int first = 0; first < embedding.vocab_size; first += n_tokens_max_) {
            const int n = std::min(n_tokens_max_, embedding.vocab_size - first);
            PlainBatch batch(static_cast<std::size_t>(n));
            std::iota(batch.tokens.begin(), batch.tokens.end(), first);
            device_->embed(batch.view(), embedding, h);
            add(h, static_cast<std::size_t>(n) * dim);
        }
    }

    void add(const backend::FloatBuffer& values) { add(values, values.size()); }

    Sha256Digest finish() { return hash_.finish(); }

  private:
    void add(const backend::FloatBuffer& values, std::size_t n) {
        host_.resize(n);
        device_->download(values, 0, host_);
        hash_.update(std::as_bytes(std::span(host_)));
    }

    /// Whole numbers in [-127, 127] without 0: each weight takes part. The first of 32 is 127 or
    /// -127, so that every form of quantisation has the scale 1 and keeps them as they are.
    void draw(int probe, std::size_t n_cols, std::vector<float>& out) const {
        for (std::size_t first = 0; first < n_cols; first += sizeof(Sha256Digest)) {
            Sha256 hash;
            hash.update(std::as_bytes(std::span(nonce_)));
            for (const std::uint64_t number :
                 {n_matrices_, static_cast<std::uint64_t>(probe), std::uint64_t{first}})
                hash.update(bytes_of(number));
            const Sha256Digest digest = hash.finish();
            const std::size_t n = std::min(n_cols - first, digest.size());
            for (std::size_t i = 0; i < n; ++i) {
                const bool negative = (digest[i] & 0x80U) != 0;
                const int size = i == 0 ? 127 : std::max(1, digest[i] & 0x7F);
                out.push_back(static_cast<float>(negative ? -size : size));
            }
        }
    }

    backend::Backend* device_;
    int n_tokens_max_;
    LiveNonce nonce_;
    std::uint64_t n_matrices_ = 0;  // that were added
    Sha256 hash_;
    std::vector<float> host_;
};

}  // namespace

Sha256Digest Transformer::live_digest(const LiveNonce& nonce) {
    LiveHash hash(*backend_, n_tokens_max_, nonce);
    hash.add(*embedding_, *h_);
    for (const Layer& layer : layers_) {
        hash.add(*layer.attn_norm);
        hash.add(*layer.qkv);
        hash.add(*layer.attn_output);
        hash.add(*layer.ffn_norm);
        if (layer.experts == nullptr) {
            hash.add(*layer.gate_up);
            hash.add(*layer.ffn_down);
            continue;
        }
        const backend::ExpertMatrices& matrices = layer.experts->matrices;
        hash.add(*matrices.router);
        for (std::size_t e = 0; e < matrices.gate_up.size(); ++e) {
            hash.add(*matrices.gate_up[e]);
            hash.add(*matrices.down[e]);
        }
    }
    hash.add(*output_norm_);
    hash.add(*head_);
    return hash.finish();
}

}  // namespace etalon::model

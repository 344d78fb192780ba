// SPDX-License-Identifier: Apache-2.0
// Results of a pass through the layers, bit by bit.
#include "backend/cuda/layers_trial.h"

#include <bit>

#include "backend/cuda/read_back.h"
#include "exact/attention.h"

namespace etalon::backend::cuda {

namespace {

using exact::kPageTokens;

std::size_t sz(int n) noexcept {
    return static_cast<std::size_t>(n);
}

}  // namespace

bool LayersResult::operator==(const LayersResult& other) const {
    if (failed != other.failed) return false;
    const std::size_t dim = h.size() / failed.size();
    const std::size_t n_written = written.size() / failed.size();
    const auto same = [](float a, float b) {
        return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
    };
    for (std::size_t i = 0; i < h.size(); ++i) {
        if (failed[i / dim] == 0 && !same(h[i], other.h[i])) return false;
    }
    for (std::size_t i = 0; i < written.size(); ++i) {
        if (failed[i / n_written] != 0) continue;
        if (written[i].q != other.written[i].q) return false;
        if (!same(written[i].scale, other.written[i].scale)) return false;
    }
    return true;
}

LayersResult read_layers_result(const Batch& batch, const BatchView& view, const CudaKvCache& kv,
                                const FloatBuffer& h, int dim) {
    LayersResult result;
    result.h.resize(sz(view.n_tokens) * sz(dim));
    result.failed.resize(sz(view.n_tokens));
    copy_to_host(result.h.data(), h.data(), result.h.size() * sizeof(float));
    copy_to_host(result.failed.data(), view.failed, result.failed.size());
    for (std::size_t t = 0; t < result.failed.size(); ++t) {
        const int position = batch.positions[t];
        const auto& table = batch.page_tables[sz(batch.sequence_of[t])];
        const int page = table[sz(position / kPageTokens)];
        for (int i = 0; i < kv.shape.n_layers * kv.shape.n_kv_heads; ++i) {
            const int layer = i / kv.shape.n_kv_heads;
            const int head = i % kv.shape.n_kv_heads;
            const int slot = position % kPageTokens;
            result.written.push_back(read_key(kv, layer, page, slot, head));
            result.written.push_back(read_value(kv, layer, page, slot, head));
        }
    }
    return result;
}

}  // namespace etalon::backend::cuda

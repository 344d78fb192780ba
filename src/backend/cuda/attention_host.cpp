// SPDX-License-Identifier: Apache-2.0
// RoPE, attention and whole layers of the CUDA backend, and which kernel makes them.
#include <algorithm>
#include <fmt/format.h>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/layers_trial.h"
#include "exact/attention.h"

namespace etalon::backend::cuda {

namespace {

/// Rows of attention for each multiprocessor below which contexts are split by chunks.
constexpr int kAttentionRowsPerMultiprocessor = 32;
/// The same for blocks of attention_decode.
constexpr int kAttentionBlocksPerMultiprocessor = 4;
/// Warps of the kernel of sm_90 for each multiprocessor from which on it is the faster one.
constexpr int kManyPerMultiprocessor = 2;

}  // namespace

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

}  // namespace etalon::backend::cuda

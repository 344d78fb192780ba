// SPDX-License-Identifier: Apache-2.0
// Attention of a ragged batch on the CPU (spec ATT-1 to ATT-11).
#include "backend/cpu/attention.h"

#include <algorithm>
#include <atomic>

#include "base/error.h"

namespace etalon::backend::cpu {

namespace {

/// Tiles for each thread below which contexts are split by chunks: enough to share out evenly.
constexpr int kTilesPerThread = 4;

std::size_t size_of(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

/// Number of tokens from t on that belong to one sequence and stand at consecutive positions.
int run_length(const Batch& batch, int t, int longest) {
    int n = 1;
    while (n < longest && t + n < batch.n_tokens() &&
           batch.sequence_of[size_of(t + n)] == batch.sequence_of[size_of(t)] &&
           batch.positions[size_of(t + n)] == batch.positions[size_of(t)] + n) {
        ++n;
    }
    return n;
}

}  // namespace

void Attention::States::reserve(std::size_t n_tiles, std::size_t dims) {
    if (rows.size() < n_tiles * kTileRowsMax) rows.resize(n_tiles * kTileRowsMax);
    if (o.size() < n_tiles * kTileRowsMax * dims) o.resize(n_tiles * kTileRowsMax * dims);
}

TileStates Attention::States::at(std::size_t tile, std::size_t dims) {
    return {rows.data() + tile * kTileRowsMax, o.data() + tile * kTileRowsMax * dims};
}

void Attention::list_work(const Batch& batch, const CpuQueries& queries, int layer,
                          int sliding_window, const CpuKvCache& kv) {
    work_.clear();
    const int group = queries.n_heads / kv.shape.n_kv_heads;
    const int heads_at_once = std::min(group, kTileRowsMax);
    const int tokens_at_once = std::min(kTileTokensMax, kTileRowsMax / heads_at_once);
    AttentionTile tile;
    tile.head_dim = queries.head_dim;
    tile.sliding_window = sliding_window;
    tile.head_stride = queries.head_stride();
    tile.token_stride = size_of(queries.n_heads) * tile.head_stride;
    tile.scales_stride = size_of(queries.n_heads);
    for (int t = 0; t < batch.n_tokens(); t += tile.n_tokens) {
        const auto& table = batch.page_tables[size_of(batch.sequence_of[size_of(t)])];
        tile.n_tokens = run_length(batch, t, tokens_at_once);
        tile.position = batch.positions[size_of(t)];
        tile.page_table = table.data();
        const std::int64_t last = tile.position + tile.n_tokens - 1;
        ETALON_ASSERT(size_of(last / exact::kPageTokens) < table.size());
        for (int kv_head = 0; kv_head < kv.shape.n_kv_heads; ++kv_head) {
            tile.kv = kv.head(layer, kv_head);
            for (int begin = 0; begin < group; begin += heads_at_once) {
                Work work;
                work.first_token = t;
                work.first_head = kv_head * group + begin;
                tile.n_heads = std::min(heads_at_once, group - begin);
                const std::size_t row = size_of(t) * tile.scales_stride + size_of(work.first_head);
                tile.q = queries.q.data() + row * tile.head_stride;
                tile.q_scales = queries.scales.data() + row;
                tile.q_sums = queries.sums.data() + row;
                work.tile = tile;
                work.first_chunk =
                    exact::visible_keys(tile.position, sliding_window).first / exact::kChunkTokens;
                work.last_chunk = last / exact::kChunkTokens;
                work_.push_back(work);
            }
        }
    }
}

void Attention::finish(const Kernels& kernels, const Batch& batch, const Work& work,
                       TileStates total, int n_heads, float* o) {
    const auto dims = size_of(work.tile.head_dim);
    for (int r = 0; r < work.tile.n_rows(); ++r) {
        const int token = work.first_token + r / work.tile.n_heads;
        const int head = work.first_head + r % work.tile.n_heads;
        kernels.finish_row(total.rows[r], total.o + size_of(r) * padded(dims), work.tile.head_dim,
                           o + (size_of(token) * size_of(n_heads) + size_of(head)) * dims);
        if (!total.rows[r].failed) continue;
        // Tiles of other heads may set the same token's flag at the same time (ERR-2).
        std::atomic_ref<std::uint8_t>(batch.failed[size_of(token)])
            .store(1, std::memory_order_relaxed);
    }
}

void Attention::run(const Kernels& kernels, ThreadPool& pool, const Batch& batch,
                    const CpuQueries& queries, int layer, int sliding_window, const CpuKvCache& kv,
                    float* o) {
    ETALON_ASSERT(queries.head_dim == kv.shape.head_dim);
    ETALON_ASSERT(queries.n_heads % kv.shape.n_kv_heads == 0);
    list_work(batch, queries, layer, sliding_window, kv);
    const std::size_t dims = padded(size_of(queries.head_dim));
    const int n_work = static_cast<int>(work_.size());
    const int n_threads = pool.n_threads();
    totals_.reserve(size_of(n_threads), dims);
    const auto join = [&](const Work& work, int thread, const auto& chunk_states) {
        const TileStates total = totals_.at(size_of(thread), dims);
        for (int r = 0; r < work.tile.n_rows(); ++r)
            total.rows[r] = RowState{};
        for (std::int64_t chunk = work.first_chunk; chunk <= work.last_chunk; ++chunk) {
            kernels.join_chunk(work.tile, chunk_states(chunk), total);  // ATT-10: left to right
        }
        finish(kernels, batch, work, total, queries.n_heads, o);
    };
    std::size_t n_states = 0;
    for (Work& work : work_) {
        work.states = n_states;
        n_states += size_of(work.last_chunk - work.first_chunk + 1);
    }
    const bool split =
        n_work < kTilesPerThread * n_threads && n_states > work_.size() && n_threads > 1;
    if (!split) {
        chunks_.reserve(size_of(n_threads), dims);
        pool.run(n_work, [&](int i, int thread) {
            const Work& work = work_[size_of(i)];
            join(work, thread, [&](std::int64_t chunk) {
                const TileStates states = chunks_.at(size_of(thread), dims);
                kernels.attend_chunk(work.tile, chunk, states);
                return states;
            });
        });
        return;
    }
    chunks_.reserve(n_states, dims);
    std::vector<std::pair<int, std::int64_t>> parts;  // (work, chunk)
    for (int i = 0; i < n_work; ++i) {
        const Work& work = work_[size_of(i)];
        for (std::int64_t c = work.first_chunk; c <= work.last_chunk; ++c)
            parts.emplace_back(i, c);
    }
    pool.run(static_cast<int>(parts.size()), [&](int i, int) {
        const auto [index, chunk] = parts[size_of(i)];
        kernels.attend_chunk(work_[size_of(index)].tile, chunk, chunks_.at(size_of(i), dims));
    });
    pool.run(n_work, [&](int i, int thread) {
        const Work& work = work_[size_of(i)];
        join(work, thread, [&](std::int64_t chunk) {
            return chunks_.at(work.states + size_of(chunk - work.first_chunk), dims);
        });
    });
}

}  // namespace etalon::backend::cpu

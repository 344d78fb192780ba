// SPDX-License-Identifier: Apache-2.0
// Attention of a ragged batch on the CPU: cuts it into tiles of queries, splits long contexts by
// chunks when there are fewer tiles than threads, joins.
#pragma once

#include <vector>

#include "backend/cpu/aligned.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/kv_cache.h"
#include "backend/operations.h"
#include "base/thread_pool.h"

namespace etalon::backend::cpu {

class Attention {
  public:
    /// o[T, n_heads * head_dim] (ATT).
    void run(const Kernels& kernels, ThreadPool& pool, const Batch& batch,
             const CpuQueries& queries, int layer, int sliding_window, const CpuKvCache& kv,
             float* o);

  private:
    /// A tile and where its rows lie in the batch.
    struct Work {
        AttentionTile tile;
        int first_token = 0;
        int first_head = 0;
        std::int64_t first_chunk = 0;
        std::int64_t last_chunk = 0;
        std::size_t states = 0;  ///< index of its first chunk's states, when split
    };
    /// Room for the states of tiles: kTileRowsMax rows each.
    struct States {
        std::vector<RowState> rows;
        AlignedVector<float> o;
        void reserve(std::size_t n_tiles, std::size_t dims);
        TileStates at(std::size_t tile, std::size_t dims);
    };

    void list_work(const Batch& batch, const CpuQueries& queries, int layer, int sliding_window,
                   const CpuKvCache& kv);
    static void finish(const Kernels& kernels, const Batch& batch, const Work& work,
                       TileStates total, int n_heads, float* o);

    std::vector<Work> work_;
    States totals_;  // one a thread
    States chunks_;  // one a thread, or one a chunk of each tile when split
};

}  // namespace etalon::backend::cpu

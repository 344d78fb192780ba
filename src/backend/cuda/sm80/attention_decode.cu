// SPDX-License-Identifier: Apache-2.0
// Attention of single tokens: the query heads of a KV head together, the pages of a chunk by
// several warps at once, joined in order (spec ATT-1 to ATT-12, ERR-2).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/attention_decode.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kHeadsMax = kDecodeHeadsMax;

/// The results of a chunk's pages.
template <int kDim>
struct Shared {
    PageSums sums[kChunkPages][kHeadsMax];
    int4 a[];  // [kChunkPages][heads][kDim / 4]
};

/// Brings the warp's first page to the second cache while the kernels before still run. They may
/// write to it; what they write is seen, the first cache keeps nothing of it.
template <int kDim>
__device__ void prefetch_page(const BatchView& batch, const KvView& kv, int layer, int kv_head,
                              std::size_t t, const Visible& visible, int chunk, int warp,
                              int lane) {
    constexpr int kLine = 128;
    const int page = max(chunk * kChunkPages, visible.first / kPageSlots) + warp;
    if (page > visible.last / kPageSlots || warp >= kChunkPages) return;
    const std::size_t index = head_page(kv, layer, page_of(batch, t, page * kPageSlots), kv_head);
    for (int line = lane; line < kPageSlots * kDim / kLine; line += kWarpLanes) {
        prefetch_line(kv.keys + index * kPageSlots * kDim + line * kLine);
        prefetch_line(kv.values + index * kPageSlots * kDim + line * kLine);
    }
}

/// o = attention of the heads of one KV head for one token (ATT-1 to ATT-12).
///   in:  batch.singles; queries int8 [T, n_heads, kDim] and scales; the cache; positions [T]
///   out: o binary32 [T, n_heads, kDim], or with shape.n_chunks > 0 the state of chunk blockIdx.z
///   of
///        each (single, head) in `states`; failed [T]
///   tile: a block a (token, KV head, chunk), 8 warps with a page each; shared: 16 pages of
///         4 kDim bytes a head
///   floor: 2 kDim bytes a key and KV head, of the read speed
///   supported: kDim 64 or 128, 1 to 8 query heads a KV head
template <int kDim>
__global__ void __launch_bounds__(kThreads)
    attention_decode_sm80(BatchView batch, QueriesView queries, KvView kv, AttentionShape shape,
                          float* states, float* out) {
    constexpr int kMine = 4;  // elements of o in a thread
    constexpr int kHeadThreads = kDim / kMine;
    constexpr int kPasses =
        kHeadsMax * kHeadThreads / kThreads == 0 ? 1 : kHeadsMax * kHeadThreads / kThreads;
    extern __shared__ int4 bytes[];
    auto& shared = *reinterpret_cast<Shared<kDim>*>(bytes);
    const int thread = static_cast<int>(threadIdx.x);
    const int lane = thread % kWarpLanes;
    const int warp = thread / kWarpLanes;
    const int kv_head = static_cast<int>(blockIdx.x);
    const int n_heads = queries.n_heads / kv.n_kv_heads;
    let_next_kernel_start();
    // The batch was sent before the first kernel of the forward pass: it can be read already.
    const auto t = static_cast<std::size_t>(batch.singles[blockIdx.y]);
    const Visible visible(batch.positions[t], shape.sliding_window);
    const std::size_t first_head = t * queries.n_heads + kv_head * n_heads;  // ATT-12
    // Rows without a head repeat the last one.
    const std::size_t row = first_head + static_cast<std::size_t>(min(lane / 4, n_heads - 1));
    const auto* q = reinterpret_cast<const int4*>(queries.q + row * kDim);
    int chunk = visible.first_chunk();
    int last_chunk = visible.last_chunk();
    if (shape.n_chunks > 0) {
        chunk += static_cast<int>(blockIdx.z);
        if (chunk > last_chunk) return;
        last_chunk = chunk;
    }
    prefetch_page<kDim>(batch, kv, shape.layer, kv_head, t, visible, chunk, warp, lane);
    wait_for_kernels_before();
    const float c = mul(queries.scales[row], shape.constant);  // ATT-3
    State<kMine> totals[kPasses];
    bool ok[kPasses];
#pragma unroll
    for (bool& all_ok : ok)
        all_ok = true;
    for (; chunk <= last_chunk; ++chunk) {
        const int first_page = max(chunk * kChunkPages, visible.first / kPageSlots);
        const int last_page = min(chunk * kChunkPages + kChunkPages - 1, visible.last / kPageSlots);
        // Phase 1: the pages, a warp each.
        for (int page = first_page + warp; page <= last_page; page += kWarps) {
            const std::size_t index =
                head_page(kv, shape.layer, page_of(batch, t, page * kPageSlots), kv_head);
            const int place = page - first_page;
            attend_page<kDim>(
                kv, index, [&](int run) { return __ldg(q + run); }, c, Slots(visible, page),
                n_heads, lane, shared.sums[place], shared.a + place * n_heads * (kDim / 4));
        }
        __syncthreads();
        // Phase 2: the pages in order (ATT-9), then the chunk (ATT-10).
#pragma unroll
        for (int pass = 0; pass < kPasses; ++pass) {
            const int head = pass * (kThreads / kHeadThreads) + thread / kHeadThreads;
            if (head >= n_heads) continue;
            State<kMine> state;
            for (int place = 0; place <= last_page - first_page; ++place) {
                const PageSums sums = shared.sums[place][head];
                const int4 a =
                    shared.a[(place * n_heads + head) * (kDim / 4) + thread % kHeadThreads];
                const int mine[kMine] = {a.x, a.y, a.z, a.w};
                join_page(sums, mine, state);
                ok[pass] = ok[pass] && sums.ok;
            }
            join_chunk(state, totals[pass]);
        }
        __syncthreads();
    }
    // Phase 3: the result (ATT-11), zeros and the flag for ERR-2, or the chunk's state.
#pragma unroll
    for (int pass = 0; pass < kPasses; ++pass) {
        const int head = pass * (kThreads / kHeadThreads) + thread / kHeadThreads;
        if (head >= n_heads) continue;
        const std::size_t index = first_head + static_cast<std::size_t>(head);
        const State<kMine>& total = totals[pass];
        const int first = thread % kHeadThreads * kMine;
        if (shape.n_chunks > 0) {
            const std::size_t state = std::size_t{blockIdx.y} * queries.n_heads +
                                      kv_head * n_heads + static_cast<std::size_t>(head);
            float* to =
                states + (state * shape.n_chunks + blockIdx.z) * attention_state_floats(kDim);
            *reinterpret_cast<float4*>(to + first) = {total.o[0], total.o[1], total.o[2],
                                                      total.o[3]};
            if (first != 0) continue;
            to[kDim] = total.l;
            to[kDim + 1] = __int_as_float(total.m);
            to[kDim + 2] = __int_as_float(ok[pass] ? 1 : 0);
            continue;
        }
        const float r = mul(divide(1.0F, total.l), 65536.0F);
        float4 o = {mul(total.o[0], r), mul(total.o[1], r), mul(total.o[2], r), mul(total.o[3], r)};
        if (!ok[pass]) o = {};
        *reinterpret_cast<float4*>(out + index * kDim + first) = o;
        if (!ok[pass] && first == 0) batch.failed[t] = 1;
    }
}

template <int kDim>
void launch(const BatchView& batch, const QueriesView& queries, const KvView& kv,
            const AttentionShape& shape, float* states, float* o, Stream stream) {
    const int n_heads = queries.n_heads / kv.n_kv_heads;
    const std::size_t bytes =
        sizeof(Shared<kDim>) + sizeof(int) * static_cast<std::size_t>(kChunkPages * n_heads * kDim);
    let_have_shared("attention_decode", attention_decode_sm80<kDim>, static_cast<int>(bytes));
    const dim3 grid(static_cast<unsigned>(kv.n_kv_heads), static_cast<unsigned>(batch.n_singles),
                    static_cast<unsigned>(shape.n_chunks > 0 ? shape.n_chunks : 1));
    launch_dependent("attention_decode", attention_decode_sm80<kDim>, grid, kThreads, bytes, stream,
                     batch, queries, kv, shape, states, o);
}

}  // namespace

bool launch_attention_decode(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                             const AttentionShape& shape, float* states, float* o, Stream stream) {
    if (queries.n_heads / kv.n_kv_heads > kHeadsMax) return false;
    if (queries.head_dim != 64 && queries.head_dim != 128) return false;
    queries.head_dim == 128 ? launch<128>(batch, queries, kv, shape, states, o, stream)
                            : launch<64>(batch, queries, kv, shape, states, o, stream);
    return true;
}

}  // namespace etalon::backend::cuda

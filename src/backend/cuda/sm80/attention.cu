// SPDX-License-Identifier: Apache-2.0
// Attention over int8 keys and values in pages, a warp a query head (spec ATT-1 to ATT-12, ERR-2).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kKeysPerLane = kPageSlots / kWarpLanes;
constexpr int kLaneDims = 4;                       // successive elements of o that a lane owns
constexpr int kWarpDims = kLaneDims * kWarpLanes;  // 128

/// Running result over pages or chunks, relative to 2^m (ATT-9). A lane holds the elements
/// 4 lane + 128 q .. + 3 of o, q < kQuads.
template <int kQuads>
struct State {
    float o[kQuads][kLaneDims];
    float l = 0.0F;
    int m = 0;
    bool empty = true;
};

/// What one page gives (ATT-5 to ATT-8).
template <int kQuads>
struct Page {
    int a[kQuads][kLaneDims];
    int l = 0;
    int m = 0;
    int e = 0;
};

/// A warp's query head, and its place in shared memory.
struct Query {
    const int4* q;    // [dim_stride / 16], shared
    std::int16_t* w;  // [64], shared
    float c;          // ATT-3
    int n_runs;       // dim_stride / 16
};

/// t_j of this lane's keys lane and lane + 32 (ATT-4).
__device__ void page_scores(const Query& query, const int4* keys, const float* scales, int lane,
                            float (&t)[kKeysPerLane]) {
    int dot[kKeysPerLane] = {};
    for (int run = 0; run < query.n_runs; ++run) {
        const int4 q = query.q[run];
#pragma unroll
        for (int j = 0; j < kKeysPerLane; ++j) {
            const int4 k = keys[run * kPageSlots + lane + j * kWarpLanes];
            dot[j] = __dp4a(k.x, q.x, dot[j]);
            dot[j] = __dp4a(k.y, q.y, dot[j]);
            dot[j] = __dp4a(k.z, q.z, dot[j]);
            dot[j] = __dp4a(k.w, q.w, dot[j]);
        }
    }
#pragma unroll
    for (int j = 0; j < kKeysPerLane; ++j)
        t[j] = mul(mul(static_cast<float>(dot[j]), scales[lane + j * kWarpLanes]), query.c);
}

__device__ float warp_max(float v) {
    for (int half = kWarpLanes / 2; half >= 1; half /= 2)
        v = fmaxf(v, __shfl_xor_sync(kFullWarp, v, half));
    return v;
}

/// W_j to shared memory, l_b, m_b and e_b of the keys in slots [low, high]; false is ERR-2.
template <int kQuads>
__device__ bool page_weights(const Query& query, const int4* keys, const float* key_scales,
                             const float* value_scales, int low, int high, int lane,
                             Page<kQuads>& page) {
    float t[kKeysPerLane];
    page_scores(query, keys, key_scales, lane, t);
    float largest = -INFINITY;
    std::uint32_t scale_max = 0;
    bool visible[kKeysPerLane];
#pragma unroll
    for (int j = 0; j < kKeysPerLane; ++j) {
        const int slot = lane + j * kWarpLanes;
        visible[j] = slot >= low && slot <= high;
        if (!visible[j]) continue;
        largest = fmaxf(largest, t[j]);
        scale_max = max(scale_max, __float_as_uint(value_scales[slot]));
    }
    const float ceiling = ceilf(warp_max(largest));
    if (!(fabsf(ceiling) < kMaxAbsExponent)) return false;  // ERR-2
    page.m = static_cast<int>(ceiling);                     // ATT-5
    scale_max = __reduce_max_sync(kFullWarp, scale_max);    // scales are not negative
    page.e = scale_max > 0 ? static_cast<int>(scale_max >> 23) - 126 : 0;  // ATT-7
    const float to_unit = power_of_two(-page.e / 2);
    const float to_unit_rest = power_of_two(-page.e - (-page.e / 2));
    int l = 0;
#pragma unroll
    for (int j = 0; j < kKeysPerLane; ++j) {
        const int slot = lane + j * kWarpLanes;
        int w = 0;
        if (visible[j]) {
            const float d = fmaxf(sub(t[j], static_cast<float>(page.m)), -32.0F);  // ATT-6
            const float n = rne(d);
            const float p = mul(exp2_poly3(sub(d, n)), power_of_two(static_cast<int>(n)));
            l += static_cast<int>(rne(mul(p, 65536.0F)));
            const float unit = mul(mul(value_scales[slot], to_unit), to_unit_rest);
            w = static_cast<int>(rne(mul(mul(p, unit), 2048.0F)));  // ATT-7
        }
        query.w[slot] = static_cast<std::int16_t>(w);
    }
    page.l = __reduce_add_sync(kFullWarp, l);
    __syncwarp();
    return true;
}

/// A_b of this lane's elements over the slots [low, high] (ATT-8): two products of 16 by 8 bits at
/// a time. |W| <= 2048, so 16 bits hold it, and W is 0 where a key is not visible.
template <int kQuads>
__device__ void page_values(const Query& query, const std::int8_t* values, int dim_stride, int low,
                            int high, int lane, Page<kQuads>& page) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
        for (int& a : page.a[q])
            a = 0;
        const int dim = kLaneDims * lane + q * kWarpDims;
        if (dim >= dim_stride) continue;
        for (int group = low / kValueRun; group <= high / kValueRun; ++group) {
            const int2 w = reinterpret_cast<const int2*>(query.w)[group];
            const int4 v = *reinterpret_cast<const int4*>(
                values + static_cast<std::size_t>(group * dim_stride + dim) * kValueRun);
            page.a[q][0] = __dp2a_hi(w.y, v.x, __dp2a_lo(w.x, v.x, page.a[q][0]));
            page.a[q][1] = __dp2a_hi(w.y, v.y, __dp2a_lo(w.x, v.y, page.a[q][1]));
            page.a[q][2] = __dp2a_hi(w.y, v.z, __dp2a_lo(w.x, v.z, page.a[q][2]));
            page.a[q][3] = __dp2a_hi(w.y, v.w, __dp2a_lo(w.x, v.w, page.a[q][3]));
        }
    }
    __syncwarp();  // the next page writes w
}

/// ATT-9.
template <int kQuads>
__device__ void join_page(const Page<kQuads>& page, State<kQuads>& state) {
    const bool first = state.empty;
    const int m = first ? page.m : max(state.m, page.m);
    const float s = first ? 0.0F : join_factor(state.m, m);
    const float u = first ? 1.0F : join_factor(page.m, m);
    const float unit = mul(u, power_of_two(page.e - 11));
    const float l = static_cast<float>(page.l);
    state.l = first ? l : add(mul(state.l, s), mul(l, u));
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
#pragma unroll
        for (int i = 0; i < kLaneDims; ++i) {
            const float a = static_cast<float>(page.a[q][i]);
            state.o[q][i] = first ? mul(a, unit) : fused(a, unit, mul(state.o[q][i], s));
        }
    }
    state.m = m;
    state.empty = false;
}

/// ATT-10.
template <int kQuads>
__device__ void join_chunk(const State<kQuads>& chunk, State<kQuads>& state) {
    if (state.empty) {
        state = chunk;
        return;
    }
    const int m = max(state.m, chunk.m);
    const float s = join_factor(state.m, m);
    const float u = join_factor(chunk.m, m);
    state.l = add(mul(state.l, s), mul(chunk.l, u));
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
#pragma unroll
        for (int i = 0; i < kLaneDims; ++i)
            state.o[q][i] = fused(chunk.o[q][i], u, mul(state.o[q][i], s));
    }
    state.m = m;
}

/// ATT-11, or zeros and the flag where an exponent was out of range (ERR-2).
template <int kQuads>
__device__ void finish(const State<kQuads>& state, bool ok, int head_dim, int lane, float* o,
                       std::uint8_t* failed) {
    const float r = mul(divide(1.0F, state.l), 65536.0F);
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
#pragma unroll
        for (int i = 0; i < kLaneDims; ++i) {
            const int dim = kLaneDims * lane + q * kWarpDims + i;
            if (dim < head_dim) o[dim] = ok ? mul(state.o[q][i], r) : 0.0F;
        }
    }
    if (!ok && lane == 0) *failed = 1;
}

/// A state in memory: dim_stride floats of o, then l, m, whether an exponent was out of range.
template <int kQuads>
__device__ void store_state(const State<kQuads>& state, bool ok, int dim_stride, int lane,
                            float* to) {
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
#pragma unroll
        for (int i = 0; i < kLaneDims; ++i) {
            const int dim = kLaneDims * lane + q * kWarpDims + i;
            if (dim < dim_stride) to[dim] = state.o[q][i];
        }
    }
    if (lane != 0) return;
    to[dim_stride] = state.l;
    to[dim_stride + 1] = __int_as_float(state.m);
    to[dim_stride + 2] = __int_as_float(ok ? 1 : 0);
}

/// Pages of a chunk, joined in order (ATT-9); false is ERR-2.
template <int kQuads>
__device__ bool attend_chunk(const BatchView& batch, const KvView& kv, const Query& query,
                             std::size_t t, int layer, int kv_head, const Visible& visible,
                             int chunk, int lane, State<kQuads>& state) {
    const int first_page = max(chunk * kChunkPages, visible.first / kPageSlots);
    const int last_page = min(chunk * kChunkPages + kChunkPages - 1, visible.last / kPageSlots);
    for (int p = first_page; p <= last_page; ++p) {
        const int start = p * kPageSlots;
        const int low = max(visible.first - start, 0);
        const int high = min(visible.last - start, kPageSlots - 1);
        const std::size_t index = head_page(kv, layer, page_of(batch, t, start), kv_head);
        const std::size_t bytes = index * kPageSlots * kv.dim_stride;
        Page<kQuads> page;
        if (!page_weights(query, reinterpret_cast<const int4*>(kv.keys + bytes),
                          kv.key_scales + index * kPageSlots, kv.value_scales + index * kPageSlots,
                          low, high, lane, page))
            return false;
        page_values(query, kv.values + bytes, kv.dim_stride, low, high, lane, page);
        join_page(page, state);
    }
    return true;
}

/// o = attention of one query head (ATT-1 to ATT-12).
///   in:  queries int8 [T, n_heads, dim_stride] and scales; the cache; positions [T]
///   out: o binary32 [T, n_heads, head_dim], or with shape.n_chunks > 0 the state of chunk
///        blockIdx.y of each row in `states`; failed [T]
///   tile: one (token, head) a warp, 4 warps; shared: 4 (dim_stride + 128) bytes
///   floor: 2 head_dim bytes a key and KV head, of the read speed
///   supported: head_dim <= 128 kQuads
template <int kQuads>
__global__ void __launch_bounds__(kThreads)
    attention_sm80(BatchView batch, QueriesView queries, KvView kv, AttentionShape shape,
                   float* states, float* o) {
    let_next_kernel_start();
    wait_for_kernels_before();
    extern __shared__ int4 shared[];
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const std::size_t row = std::size_t{blockIdx.x} * kWarps + warp;
    if (row >= static_cast<std::size_t>(batch.n_tokens) * queries.n_heads) return;
    const std::size_t t = row / queries.n_heads;
    const int head = static_cast<int>(row % queries.n_heads);
    const int kv_head = head / (queries.n_heads / kv.n_kv_heads);  // ATT-12
    const int n_runs = kv.dim_stride / kKeyRun;
    constexpr int kWeightWords = kPageSlots * sizeof(std::int16_t) / sizeof(int4);
    int4* mine = shared + warp * (n_runs + kWeightWords);
    const auto* q = reinterpret_cast<const int4*>(queries.q + row * queries.dim_stride);
    for (int i = lane; i < n_runs; i += kWarpLanes)
        mine[i] = q[i];
    __syncwarp();
    const Query query{mine, reinterpret_cast<std::int16_t*>(mine + n_runs),
                      mul(queries.scales[row], shape.constant), n_runs};
    const Visible visible(batch.positions[t], shape.sliding_window);
    State<kQuads> total{};
    bool ok = true;
    if (shape.n_chunks > 0) {
        const int chunk = visible.first_chunk() + static_cast<int>(blockIdx.y);
        if (chunk > visible.last_chunk()) return;
        ok = attend_chunk(batch, kv, query, t, shape.layer, kv_head, visible, chunk, lane, total);
        float* to =
            states + (row * shape.n_chunks + blockIdx.y) * attention_state_floats(kv.dim_stride);
        store_state(total, ok, kv.dim_stride, lane, to);
        return;
    }
    for (int chunk = visible.first_chunk(); ok && chunk <= visible.last_chunk(); ++chunk) {
        State<kQuads> state{};
        ok = attend_chunk(batch, kv, query, t, shape.layer, kv_head, visible, chunk, lane, state);
        join_chunk(state, total);
    }
    finish(total, ok, queries.head_dim, lane, o + row * queries.head_dim, batch.failed + t);
}

/// Joins the chunks of each row, left to right (ATT-10, ATT-11).
///   in:  states as attention_sm80 stores them, of `tokens`, or of all when it is null
///   out: o binary32 [T, n_heads, head_dim]; failed [T]
///   tile: one row a warp, 4 warps
///   floor: 4 head_dim bytes a chunk, of the read speed
///   supported: head_dim <= 128 kQuads
template <int kQuads>
__global__ void __launch_bounds__(kThreads)
    attention_join_sm80(BatchView batch, QueriesView queries, AttentionShape shape,
                        const std::int32_t* tokens, int n_tokens, const float* states, float* o) {
    let_next_kernel_start();
    wait_for_kernels_before();
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const std::size_t state =
        std::size_t{blockIdx.x} * kWarps + static_cast<int>(threadIdx.x) / kWarpLanes;
    if (state >= static_cast<std::size_t>(n_tokens) * queries.n_heads) return;
    std::size_t t = state / queries.n_heads;
    if (tokens != nullptr) t = static_cast<std::size_t>(tokens[t]);
    const std::size_t row = t * queries.n_heads + state % queries.n_heads;
    const int stride = queries.dim_stride;
    const Visible visible(batch.positions[t], shape.sliding_window);
    const int n = visible.last_chunk() - visible.first_chunk() + 1;
    const float* from = states + state * shape.n_chunks * attention_state_floats(stride);
    State<kQuads> total{};
    bool ok = true;
    for (int chunk = 0; chunk < n; ++chunk, from += attention_state_floats(stride)) {
        State<kQuads> state{};
#pragma unroll
        for (int q = 0; q < kQuads; ++q) {
#pragma unroll
            for (int i = 0; i < kLaneDims; ++i) {
                const int dim = kLaneDims * lane + q * kWarpDims + i;
                state.o[q][i] = dim < stride ? from[dim] : 0.0F;
            }
        }
        state.l = from[stride];
        state.m = __float_as_int(from[stride + 1]);
        ok = ok && __float_as_int(from[stride + 2]) != 0;
        if (!ok) break;
        join_chunk(state, total);
        total.empty = false;
    }
    finish(total, ok, queries.head_dim, lane, o + row * queries.head_dim, batch.failed + t);
}

template <int kQuads>
void launch_join(const BatchView& batch, const QueriesView& queries, const AttentionShape& shape,
                 const std::int32_t* tokens, int n_tokens, const float* states, float* o,
                 Stream stream) {
    const std::size_t rows =
        static_cast<std::size_t>(n_tokens) * static_cast<std::size_t>(queries.n_heads);
    const dim3 grid(static_cast<unsigned>((rows + kWarps - 1) / kWarps));
    launch_dependent("attention_join", attention_join_sm80<kQuads>, grid, kThreads, 0, stream,
                     batch, queries, shape, tokens, n_tokens, states, o);
}

template <int kQuads>
void launch(const BatchView& batch, const QueriesView& queries, const KvView& kv,
            const AttentionShape& shape, float* states, float* o, Stream stream) {
    const std::size_t rows =
        static_cast<std::size_t>(batch.n_tokens) * static_cast<std::size_t>(queries.n_heads);
    const dim3 grid(static_cast<unsigned>((rows + kWarps - 1) / kWarps),
                    static_cast<unsigned>(shape.n_chunks > 0 ? shape.n_chunks : 1));
    const std::size_t bytes =
        kWarps * (static_cast<std::size_t>(kv.dim_stride) + kPageSlots * sizeof(std::int16_t));
    launch_dependent("attention", attention_sm80<kQuads>, grid, kThreads, bytes, stream, batch,
                     queries, kv, shape, states, o);
    if (shape.n_chunks == 0) return;
    launch_join<kQuads>(batch, queries, shape, nullptr, batch.n_tokens, states, o, stream);
}

}  // namespace

void launch_attention(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                      const AttentionShape& shape, float* states, float* o, Stream stream) {
    ETALON_ASSERT(kv.dim_stride <= 4 * kWarpDims);
    if (kv.dim_stride <= kWarpDims) {
        launch<1>(batch, queries, kv, shape, states, o, stream);
    } else if (kv.dim_stride <= 2 * kWarpDims) {
        launch<2>(batch, queries, kv, shape, states, o, stream);
    } else {
        launch<4>(batch, queries, kv, shape, states, o, stream);
    }
}

void launch_attention_join(const BatchView& batch, const QueriesView& queries,
                           const AttentionShape& shape, const float* states, float* o,
                           Stream stream) {
    ETALON_ASSERT(queries.dim_stride <= kWarpDims && shape.n_chunks > 0);
    launch_join<1>(batch, queries, shape, batch.singles, batch.n_singles, states, o, stream);
}

}  // namespace etalon::backend::cuda

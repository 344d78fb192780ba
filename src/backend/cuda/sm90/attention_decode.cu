// SPDX-License-Identifier: Apache-2.0
// Attention of single tokens where there are many: a warp goes through the pages of a chunk, which
// the copy engine brings to shared memory ahead of it (spec ATT-1 to ATT-12, ERR-2).
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/barrier.cuh"
#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/tensor_copy.cuh"
#include "backend/cuda/sm80/attention_page.cuh"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kWarps = 2;  // of a block; they do not meet
constexpr int kThreads = kWarps * kWarpLanes;
constexpr int kBlocksMin = 4;  // of a multiprocessor: more had too few registers
[[maybe_unused]] constexpr int kScaleBytes = kPageSlots * static_cast<int>(sizeof(float));
/// Positions of a token's sequence that the pass itself may write, its own included: longer runs
/// are no single tokens (batch.cpp).
[[maybe_unused]] constexpr int kWrittenMax = 8;

/// Keys and values of a page as they lie in the cache: one copy each. The copy engine takes as long
/// for a short copy, so that rows are not set apart to spare the loads a meeting in a bank.
template <int kDim>
struct Keys {
    int4 runs[kDim / kKeyRun][kPageSlots];
};
template <int kDim>
struct Values {
    int4 runs[kPageSlots / kValueRun][kDim / 4];
};

struct Scales {
    float keys[kPageSlots];
    float values[kPageSlots];
};

/// What a warp has. Scales are read longer than keys: there is one more of them.
template <int kDim, int kKeys, int kValues>
struct Ring {
    Keys<kDim> keys[kKeys];
    Values<kDim> values[kValues];
    Scales scales[kKeys + 1];
    Barrier keys_there[kKeys];
    Barrier values_there[kValues];
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Where the pages of a chunk come from.
struct Source {
    const BatchView* batch;
    const KvView* kv;
    std::size_t t;
    int layer;
    int kv_head;
    int first_page;

    __device__ std::size_t index(int place) const {
        const int position = (first_page + place) * kPageSlots;
        return head_page(*kv, layer, page_of(*batch, t, position), kv_head);
    }
};

/// Keys and scales of page `place`; called by one lane.
template <int kDim, int kKeys, int kValues>
__device__ void copy_keys(Ring<kDim, kKeys, kValues>& ring, const Source& source, int place) {
    Barrier& there = ring.keys_there[place % kKeys];
    const std::size_t index = source.index(place);
    Scales& scales = ring.scales[place % (kKeys + 1)];
    constexpr int kBytes = kPageSlots * kDim;
    barrier_arrive_expect(there, kBytes + 2 * kScaleBytes);
    copy_bytes(&ring.keys[place % kKeys], source.kv->keys + index * kBytes, kBytes, there);
    copy_bytes(scales.keys, source.kv->key_scales + index * kPageSlots, kScaleBytes, there);
    copy_bytes(scales.values, source.kv->value_scales + index * kPageSlots, kScaleBytes, there);
}

template <int kDim, int kKeys, int kValues>
__device__ void copy_values(Ring<kDim, kKeys, kValues>& ring, const Source& source, int place) {
    Barrier& there = ring.values_there[place % kValues];
    constexpr int kBytes = kPageSlots * kDim;
    barrier_arrive_expect(there, kBytes);
    copy_bytes(&ring.values[place % kValues], source.kv->values + source.index(place) * kBytes,
               kBytes, there);
}

/// What the ring has room for of pages [first, end).
template <int kDim, int kKeys, int kValues>
__device__ void copy_first(Ring<kDim, kKeys, kValues>& ring, const Source& source, int first,
                           int end) {
    for (int place = first; place < min(end, kKeys); ++place)
        copy_keys(ring, source, place);
    for (int place = first; place < min(end, kValues); ++place)
        copy_values(ring, source, place);
}

/// Running result of a lane's head over the pages: elements 32 b + 8 (lane % 4) + i are o[8 b + i].
template <int kDim>
struct State {
    float o[kDim / 4] = {};
    float l = 0.0F;
    int m = 0;
    bool empty = true;
    bool ok = true;
};

/// ATT-9: how a page and what came before it are weighed.
struct Join {
    float before;
    float unit;  // of A_b
};
template <int kDim>
__device__ Join join_sums(const PageSums& page, State<kDim>& state) {
    const int m = state.empty ? page.m : max(state.m, page.m);
    const float s = state.empty ? 0.0F : join_factor(state.m, m);
    const float u = state.empty ? 1.0F : join_factor(page.m, m);
    state.l = add(mul(state.l, s), mul(static_cast<float>(page.l), u));
    state.m = m;
    state.empty = false;
    state.ok = state.ok && page.ok;
    return {s, mul(u, power_of_two(page.e - 11))};
}

/// Scores and weights of a page from the products of its keys (ATT-4 to ATT-7).
__device__ PageSums weigh(const int (&dots)[8][4], float c, const Scales& scales,
                          const Slots& visible, int lane, WeightPlanes (&weights)[2]) {
    const Slots slots[2] = {visible, visible};
    const float both[2] = {c, 0.0F};
    const auto of_keys = [&](int p) {
        return reinterpret_cast<const float4*>(scales.keys)[4 * p + lane % 4];
    };
    const auto of_values = [&](int p) {
        return reinterpret_cast<const float4*>(scales.values)[4 * p + lane % 4];
    };
    PageSums sums[2];
    PageScores<1> scores;
    if (visible.all()) {
        page_scores<false, 1>(dots, both, of_keys, of_values, slots, lane, sums, scores);
        page_weights<false, 1>(scores, of_values, slots, lane, sums, weights);
    } else {
        page_scores<true, 1>(dots, both, of_keys, of_values, slots, lane, sums, scores);
        page_weights<true, 1>(scores, of_values, slots, lane, sums, weights);
    }
    return sums[0];
}

/// ATT-8 and ATT-9: A_b of the values joins the state.
template <int kDim>
__device__ void add_values(const Values<kDim>& values, const WeightPlanes (&weights)[2],
                           const Join& join, int lane, State<kDim>& state) {
#pragma unroll
    for (int block = 0; block < kDim / 32; ++block) {
        int4 v[kSlotRuns];
#pragma unroll
        for (int p = 0; p < kSlotRuns; ++p)
            v[p] = values.runs[4 * p + lane % 4][8 * block + lane / 4];
        int a[4][4];
        page_values(weights, v, a);
#pragma unroll
        for (int j = 0; j < 4; ++j) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float& o = state.o[8 * block + 4 * half + j];
                o = fused(static_cast<float>(a[j][half]), join.unit, mul(o, join.before));
            }
        }
    }
}

/// The result of a lane's head (ATT-11), zeros and the flag for ERR-2, or the chunk's state.
template <int kDim>
__device__ void store(const State<kDim>& state, const AttentionShape& shape, std::size_t head,
                      std::size_t state_row, int chunk, int lane, float* states, float* out,
                      std::uint8_t* failed) {
    float* to = out + head * kDim;
    float r = 1.0F;
    if (shape.n_chunks > 0) {
        to = states + (state_row * shape.n_chunks + chunk) * attention_state_floats(kDim);
        if (lane % 4 == 0) {
            to[kDim] = state.l;
            to[kDim + 1] = __int_as_float(state.m);
            to[kDim + 2] = __int_as_float(state.ok ? 1 : 0);
        }
    } else {
        r = mul(divide(1.0F, state.l), 65536.0F);
        if (!state.ok && lane % 4 == 0) *failed = 1;
    }
    const bool zero = shape.n_chunks == 0 && !state.ok;
#pragma unroll
    for (int i = 0; i < kDim / 4; i += 4) {
        const float* o = state.o + i;
        float4 four = {o[0], o[1], o[2], o[3]};
        if (shape.n_chunks == 0)
            four = {mul(four.x, r), mul(four.y, r), mul(four.z, r), mul(four.w, r)};
        if (zero) four = {};
        *reinterpret_cast<float4*>(to + i / 8 * 32 + lane % 4 * 8 + i % 8) = four;
    }
}

#endif

/// o = attention of the heads of one KV head for one token and one chunk (ATT-1 to ATT-12).
///   in:  batch.singles; queries int8 [T, n_heads, kDim] and scales; the cache; positions [T]
///   out: o binary32 [T, n_heads, kDim], or with shape.n_chunks > 0 the state of chunk blockIdx.z
///        of each (single, head) in `states`; failed [T]
///   tile: a warp a (token, KV head, chunk), its pages one after the other; a lane of the
///         products' row r has elements of head r; shared: kKeys pages of keys and kValues of
///         values a warp, 8 KB each; pages that the pass does not write are under way before its
///         kernels are awaited
///   floor: 2 kDim bytes a key and KV head, of the read speed
///   supported: kDim 64 or 128, 1 to 8 query heads a KV head; shape.n_chunks 0: one chunk each
template <int kDim, int kKeys, int kValues>
__global__ void __launch_bounds__(kThreads, kBlocksMin)
    attention_decode_sm90(BatchView batch, QueriesView queries, KvView kv, AttentionShape shape,
                          float* states, float* out) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ int4 bytes[];
    const int lane = static_cast<int>(threadIdx.x) % kWarpLanes;
    const int warp = static_cast<int>(threadIdx.x) / kWarpLanes;
    auto& ring = reinterpret_cast<Ring<kDim, kKeys, kValues>*>(bytes)[warp];
    let_next_kernel_start();
    const int kv_head = static_cast<int>(blockIdx.x) * kWarps + warp;
    if (kv_head >= kv.n_kv_heads) return;
    if (lane == 0) {
        for (Barrier& there : ring.keys_there)
            barrier_init(there, 1);
        for (Barrier& there : ring.values_there)
            barrier_init(there, 1);
        barrier_init_fence();
    }
    __syncwarp();
    // The batch was sent before the first kernel of the forward pass: it can be read already.
    const auto t = static_cast<std::size_t>(batch.singles[blockIdx.y]);
    const int position = batch.positions[t];
    const Visible visible(position, shape.sliding_window);
    const int chunk = visible.first_chunk() + static_cast<int>(blockIdx.z);
    if (chunk > visible.last_chunk()) return;
    const int first_page = max(chunk * kChunkPages, visible.first / kPageSlots);
    const int n_pages =
        min(chunk * kChunkPages + kChunkPages - 1, visible.last / kPageSlots) + 1 - first_page;
    const Source source{&batch, &kv, t, shape.layer, kv_head, first_page};
    const int n_early =
        min(max((position + 1 - kWrittenMax) / kPageSlots - first_page, 0), n_pages);
    if (lane == 0) copy_first(ring, source, 0, n_early);
    wait_for_kernels_before();
    if (lane == 0) copy_first(ring, source, n_early, n_pages);
    const int n_heads = queries.n_heads / kv.n_kv_heads;
    const std::size_t first_head = t * queries.n_heads + kv_head * n_heads;  // ATT-12
    // Rows without a head repeat the last one.
    const int mine = min(lane / 4, n_heads - 1);
    const std::size_t row = first_head + static_cast<std::size_t>(mine);
    int4 q[kDim / 64];
#pragma unroll
    for (int g = 0; g < kDim / 64; ++g)
        q[g] = reinterpret_cast<const int4*>(queries.q + row * kDim)[4 * g + lane % 4];
    const float c = mul(queries.scales[row], shape.constant);  // ATT-3
    State<kDim> state;
    for (int place = 0; place < n_pages; ++place) {
        const Keys<kDim>& keys = ring.keys[place % kKeys];
        barrier_wait(ring.keys_there[place % kKeys], place / kKeys % 2);
        int dots[8][4];
        page_dots<kDim / 64>(
            [&](int half, int run) { return half == 0 ? q[(run - lane % 4) / 4] : int4{}; },
            [&](int run, int slot) { return keys.runs[run][slot]; }, lane, dots);
        // The keys are read; the fence, which racecheck wants, takes no time here.
        shared_proxy_fence();
        __syncwarp();
        if (lane == 0 && place + kKeys < n_pages) copy_keys(ring, source, place + kKeys);
        WeightPlanes weights[2] = {};
        const PageSums sums = weigh(dots, c, ring.scales[place % (kKeys + 1)],
                                    Slots(visible, first_page + place), lane, weights);
        const Join join = join_sums(sums, state);
        barrier_wait(ring.values_there[place % kValues], place / kValues % 2);
        add_values(ring.values[place % kValues], weights, join, lane, state);
        shared_proxy_fence();
        __syncwarp();  // the values and scales are read
        if (lane == 0 && place + kValues < n_pages) copy_values(ring, source, place + kValues);
    }
    if (lane / 4 >= n_heads) return;
    store(state, shape, row, std::size_t{blockIdx.y} * queries.n_heads + kv_head * n_heads + mine,
          static_cast<int>(blockIdx.z), lane, states, out, batch.failed + t);
#endif
}

template <int kDim, int kKeys, int kValues>
void launch(const BatchView& batch, const QueriesView& queries, const KvView& kv,
            const AttentionShape& shape, float* states, float* o, Stream stream) {
    static_assert(sizeof(Ring<kDim, kKeys, kValues>) % sizeof(int4) == 0);
    constexpr std::size_t kBytes = kWarps * sizeof(Ring<kDim, kKeys, kValues>);
    const auto kernel = attention_decode_sm90<kDim, kKeys, kValues>;
    let_have_shared("attention_decode", kernel, kBytes);
    const dim3 grid(static_cast<unsigned>((kv.n_kv_heads + kWarps - 1) / kWarps),
                    static_cast<unsigned>(batch.n_singles),
                    static_cast<unsigned>(shape.n_chunks > 0 ? shape.n_chunks : 1));
    launch_dependent("attention_decode", kernel, grid, kThreads, kBytes, stream, batch, queries, kv,
                     shape, states, o);
}

/// As many pages under way as the warps of a multiprocessor have room for.
template <int kDim>
void launch_depth(const BatchView& batch, const QueriesView& queries, const KvView& kv,
                  const AttentionShape& shape, float* states, float* o, int n_multiprocessors,
                  Stream stream) {
    const int n_warps = batch.n_singles * kv.n_kv_heads * (shape.n_chunks > 0 ? shape.n_chunks : 1);
    const int each = (n_warps + n_multiprocessors - 1) / n_multiprocessors;
    if (each <= 4) return launch<kDim, 3, 3>(batch, queries, kv, shape, states, o, stream);
    if (each <= 6) return launch<kDim, 2, 2>(batch, queries, kv, shape, states, o, stream);
    launch<kDim, 2, 1>(batch, queries, kv, shape, states, o, stream);
}

}  // namespace

void launch_attention_decode_sm90(const BatchView& batch, const QueriesView& queries,
                                  const KvView& kv, const AttentionShape& shape, float* states,
                                  float* o, int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(queries.n_heads / kv.n_kv_heads <= kDecodeHeadsMax);
    ETALON_ASSERT(queries.head_dim == 64 || queries.head_dim == 128);
    queries.head_dim == 128
        ? launch_depth<128>(batch, queries, kv, shape, states, o, n_multiprocessors, stream)
        : launch_depth<64>(batch, queries, kv, shape, states, o, n_multiprocessors, stream);
}

}  // namespace etalon::backend::cuda

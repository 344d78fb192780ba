// SPDX-License-Identifier: Apache-2.0
// All layers of a pass of one token of an E8 or E4 model as one kernel: the weights stream
// through shared memory without a pause, and what lies between them is done while they do (spec
// FWD-2, FWD-3).
#include <algorithm>
#include <cmath>
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/ptx/grid_barrier.cuh"
#include "backend/cuda/sm90/layers_attention.cuh"
#include "backend/cuda/sm90/layers_rows.cuh"
#include "backend/cuda/sm90/layers_stream.cuh"
#include "base/error.h"

namespace etalon::backend::cuda::layers {

namespace {

/// What a block shares beside the ring and the rows of codes.
template <typename Slots, typename Size, int kTokens>
struct Shared {
    typename Slots::Table table;
    Barrier full[Slots::kMax];
    Barrier empty[Slots::kMax];
    float2 turns[kTokens][kDim / 2];
    int sums[kTokens][Size::kRowsMax];
    float h[kTokens][kThreads];  // the block's rows
    float lanes[2][kLanes];      // of SUM-1, in turns
    std::uint32_t first_turn;    // of packets
    Place places[kWarps];
    std::uint32_t words[kTokens][kWarps];
    float scales[kTokens];  // of the tokens' codes; NaN: the token has failed
    Share shares[kLayerMatrices];
    int under_way_max;  // slots that are copied at the same time
};

/// Slots that are copied at the same time while a block multiplies.
template <typename Slots, typename Size>
constexpr int kUnderWay = Size::kWide ? Slots::kUnderWayWide : Slots::kUnderWay;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// Until so many blocks are about to have written their packets: reading them sooner would take
/// from the weights' way, over and over.
__device__ void await_packets(const std::uint32_t* hints, std::uint32_t n) {
    if (own_thread() == 0) hint_wait(hints, n);
    sync();
}

/// LIN-3 and LIN-1 of one row and token; takes the sum out of its place.
__device__ float product(int& sum, float a, float d, const float* bias, int row) {
    const bool failed = a != a;  // such a token reads as zero
    const float value = mul(failed ? 0.0F : static_cast<float>(sum), mul(failed ? 0.0F : a, d));
    sum = 0;
    return bias == nullptr ? value : add(value, bias[row]);
}

/// What a thread's row of a product meets; loaded while the products are made, but for the bias,
/// which few models have.
struct Met {
    const float* bias;
    float d = 0.0F;
    float d_up = 0.0F;
    float w = 0.0F;  // of the norm that follows
};

/// Who leaves last makes the counters ready for the next pass.
__device__ void leave(const LayersView& view, const Packets& packets, unsigned n_blocks) {
    if (atomicAdd(view.meetings + kLeft, 1U) + 1 != n_blocks) return;
    for (int i = 0; i < kTurns; ++i)
        view.meetings[i] = 0;
    constexpr std::uint32_t kTurnsMax = 1U << 31;
    std::uint32_t turn = packets.turn(kLayerMatrices * view.n_layers);
    if (turn >= kTurnsMax) {  // from the first one again, which no packet may have
        turn = 0;
        for (std::size_t i = 0; i < view.packets_bytes / sizeof(Packet); ++i)
            packets.packets[i].turn = 0;
    }
    view.meetings[kTurns] = turn;
}

/// What the warps that compute do. Each step is written once: what a layer runs through has to fit
/// in the caches of instructions.
template <typename Slots, typename Size, int kTokens>
__device__ void compute(const BatchView& batch, const LayersView& view, const Ring& ring,
                        std::int8_t* room, Shared<Slots, Size, kTokens>& shared) {
    const int n_tokens = batch.n_tokens;
    const int dim = view.dim;
    const int hidden = view.hidden_dim;
    const int heads = view.n_heads * kDim;
    const int dim_bits = 31 - __clz(view.dim_block);
    const int n_parts = Size::kWide ? HeadParts(view.n_heads / view.kv.n_kv_heads).n : 1;
    const int n_units = n_tokens * view.kv.n_kv_heads * n_parts;
    const auto n_blocks = gridDim.x;
    const std::uint32_t n_attending = min(n_blocks, static_cast<unsigned>(n_units));
    volatile int& limit = shared.under_way_max;
    const auto unit_of = [&](int u) { return Unit(u, view.kv.n_kv_heads, n_parts); };
    // The block's rows of h, a thread each, and of the input of the matrix that follows (NRM-2,
    // ROT-3).
    const auto pass_on = [&](int t, int thread, float w, int step) {
        const Packets packets(view, shared.first_turn);
        const std::uint32_t turn = packets.turn(step);
        const int norm = step % kLayerMatrices == kQkv ? 0 : 1;
        const Share& rows = shared.shares[kDown];
        const int row = rows.first + thread;
        const float h = shared.h[t][thread];
        const float z = rotate_lanes<0, kDimUnitBits>(mul(w, h), thread % kWarpLanes);
        store_rows<kUnit>(packets.at(t, packets.room.z(norm)), row, z, thread < rows.n, turn);
        store_rows<kUnit>(packets.at(t, packets.room.h(norm)), row, h, thread < rows.n, turn);
    };
    {
        const int thread = own_thread();
        if (thread == 0) shared.first_turn = first_turn(view);
        if (thread < kWarps) shared.places[thread] = {thread, thread, 0, true};
        sync();
        const Share& rows = shared.shares[kDown];
        const int row = rows.first + thread;
        const float w = thread < rows.n ? view.layers[0].attn_norm[row] : 0.0F;
        for (int t = 0; t < n_tokens; ++t) {
            shared.h[t][thread] = thread < rows.n ? __ldcg(view.h + t * dim + row) : 0.0F;
            if (thread / kWarpLanes * kWarpLanes < rows.n) pass_on(t, thread, w, 0);
        }
        if (thread == 0) hint_arrive(view.meetings + kHints);
    }
    const int n_steps = kLayerMatrices * view.n_layers;
    const auto met_by = [&](int step, int thread) {
        const int layer = step / kLayerMatrices;
        const int m = step % kLayerMatrices;
        const MatrixView& matrix = view.layers[layer].matrices[m];
        const Share& share = shared.shares[m];
        Met met{matrix.bias};
        if (thread >= share.n) return met;
        const int row = share.first + thread;
        met.d = matrix.d[row];
        if (m == kGateUp) met.d_up = matrix.d[hidden + row];
        if (m == kAttnOutput) met.w = view.layers[layer].ffn_norm[row];
        if (m == kDown && step + 1 < n_steps) met.w = view.layers[layer + 1].attn_norm[row];
        return met;
    };
#pragma unroll 1
    for (int step = 0; step < n_steps; ++step) {
        const int layer = step / kLayerMatrices;
        const int m = step % kLayerMatrices;
        const Share& share = shared.shares[m];
        const bool last = step + 1 == n_steps;
        const Packets packets(view, shared.first_turn);
        if (m == kQkv) {
            for (int u = static_cast<int>(blockIdx.x); u < n_units; u += static_cast<int>(n_blocks))
                prefetch_unit(batch, view, layer, unit_of(u));
        }
        const std::uint32_t turn = packets.turn(step);
        // Phase 1: the codes of the input.
        if (m == kDown) {
            if (own_thread() == 0)
                meeting_wait(view.meetings + kHidden,
                             static_cast<std::uint32_t>(layer + 1) * n_blocks);
            sync();
        } else if (m != kAttnOutput || blockIdx.x < n_attending) {
            // A hint of each block before the layers, and behind each matrix but gate and up.
            await_packets(view.meetings + kHints,
                          static_cast<std::uint32_t>(3 * layer + m + 1) * n_blocks);
        }
        if (m == kAttnOutput) {
            if (blockIdx.x < n_attending) {
                for (int u = static_cast<int>(blockIdx.x); u < n_units;
                     u += static_cast<int>(n_blocks))
                    attend<Size, kTokens>(batch, view, layer, packets, turn, unit_of(u),
                                          shared.turns, *reinterpret_cast<AttentionRoom*>(room));
                if (own_thread() == 0) hint_arrive(view.meetings + kAttended);
            }
            await_packets(view.meetings + kAttended,
                          static_cast<std::uint32_t>(layer + 1) * n_attending);
        }
#pragma unroll 1
        for (int t = 0; t < n_tokens; ++t) {
            auto& words = shared.words[t];
            float& scale = shared.scales[t];
            std::uint8_t* failed = batch.failed + t;
            if (m == kAttnOutput) {
                quantize_attention<Size::kRounds>(packets.at(t, packets.room.o()), turn, heads,
                                                  room + t * heads, words, scale, failed);
            } else if (m == kDown) {
                const float* from = view.hidden + t * hidden;
                std::int8_t* codes = room + t * hidden;
                if (view.hidden_block == 1024) {
                    rotate_quantize<Size, 5>(from, hidden, codes, words, scale, failed);
                } else if (view.hidden_block == 2048) {
                    rotate_quantize<Size, 6>(from, hidden, codes, words, scale, failed);
                } else {
                    rotate_quantize<Size, 7>(from, hidden, codes, words, scale, failed);
                }
            } else {
                const int norm = m == kQkv ? 0 : 1;
                norm_quantize<Size::kRounds>(packets.at(t, packets.room.z(norm)), turn, dim,
                                             dim_bits, room + t * dim, words);
            }
        }
        const bool behind_norm = m == kQkv || m == kGateUp;
        if (behind_norm) named_arrive(kNormBarrier, kNormThreads);  // scale_norms() goes on
        sync();
        // Phase 2: the products.
        const int thread = own_thread();
        if (thread == 0) limit = kUnderWay<Slots, Size>;
        const Met met = met_by(step, thread);
        multiply_share<Slots>(share, ring, shared.places[thread / kWarpLanes], shared.table, room,
                              shared.sums);
        named_sync(behind_norm ? kScaleBarrier : kComputeBarrier,
                   behind_norm ? kNormThreads : kThreads);
        if (thread == 0) limit = m == kQkv ? Slots::kUnderWayAttention : Slots::kUnderWayBetween;
        // Phase 3: the block's rows of the result, to who needs them next; what is rotated then
        // goes through its first strides.
        const int row = share.first + thread;
        const bool mine = thread < share.n;
        if (thread / kWarpLanes * kWarpLanes < share.n) {
#pragma unroll
            for (int t = 0; t < kTokens; ++t) {
                if (t >= n_tokens) break;
                const float a = shared.scales[t];
                float value =
                    mine ? product(shared.sums[t][thread], a, met.d, met.bias, row) : 0.0F;
                if (m == kQkv) {
                    store_rows<kLaneDims>(packets.at(t, packets.room.qkv()), row, value, mine,
                                          packets.turn(step + 1));
                } else if (m == kGateUp) {
                    const float up = mine ? product(shared.sums[t][share.n + thread], a, met.d_up,
                                                    met.bias, hidden + row)
                                          : 0.0F;
                    value =
                        rotate_lanes<0, kHiddenUnitBits>(swiglu(value, up), thread % kWarpLanes);
                    if (mine) view.hidden[t * hidden + row] = value;
                } else {
                    const float h = add(shared.h[t][thread], value);  // RES-1
                    shared.h[t][thread] = h;
                    if (!last) {
                        pass_on(t, thread, met.w, step + 1);
                    } else if (mine) {
                        view.h[t * dim + row] = h;
                    }
                }
            }
        }
        if (m == kGateUp) sync();
        if (thread == 0 && !last) {
            m == kGateUp ? meeting_arrive(view.meetings + kHidden)
                         : hint_arrive(view.meetings + kHints);
        }
    }
    if (own_thread() == 0) leave(view, Packets(view, shared.first_turn), n_blocks);
}

/// The scales of the tokens behind a norm (NRM-1, NRM-3, ERR-1), which the products wait for last:
/// a warp beside those that compute. The norm itself is made by one block for all, with two warps
/// more; `warp` is that of the three.
template <typename Slots, typename Size, int kTokens>
__device__ void scale_norms(const BatchView& batch, const LayersView& view, int warp,
                            Shared<Slots, Size, kTokens>& shared) {
    const bool makes = blockIdx.x + 1 == gridDim.x;
    if (warp > 0 && !makes) return;
    const std::uint32_t first = first_turn(view);
#pragma unroll 1
    for (int i = 0; i < 2 * view.n_layers; ++i) {
        const int lane = own_thread() % kWarpLanes;
        const Packets packets(view, first);
        const std::uint32_t turn =
            packets.turn(i / 2 * kLayerMatrices + (i % 2 == 0 ? kQkv : kGateUp));
#pragma unroll 1
        for (int t = 0; makes && t < batch.n_tokens; ++t) {
            auto& lanes = shared.lanes[(i * batch.n_tokens + t) % 2];
            square_lanes(packets.at(t, packets.room.h(i % 2)), view.dim, turn,
                         warp * kWarpLanes + lane, lanes);
            named_sync(kSquaresBarrier, kSquaresThreads);
            if (warp > 0) continue;
            const float norm = norm_scale(lanes, view.dim, view.eps, lane);
            if (lane == 0) single_store(packets.at(t, packets.room.norm(i % 2)), norm, turn);
        }
        if (warp > 0) continue;
        named_sync(kNormBarrier, kNormThreads);
#pragma unroll 1
        for (int t = 0; t < batch.n_tokens; ++t) {
            std::uint32_t amax = 0;
#pragma unroll
            for (const std::uint32_t word : shared.words[t])
                amax = max(amax, word);
            const Packet* from = packets.at(t, packets.room.norm(i % 2));
            const float norm = single_wait(from, turn, single_load(from));
            const std::uint32_t bits = __float_as_uint(norm);
            const bool ok = amax < kInfinityBits && bits > 0 && bits < kInfinityBits;
            if (lane == 0) shared.scales[t] = ok ? mul(Quantizer(amax).scale, norm) : NAN;
            if (lane == 0 && !ok && blockIdx.x == 0) batch.failed[t] = 1;
        }
        __syncwarp();
        named_arrive(kScaleBarrier, kNormThreads);
    }
}

#endif

/// h after all layers (FWD-2, FWD-3).
///   in:  view.h, the weights, the cache; batch
///   out: view.h, the cache at each token's position, failed [T]
///   tile: a block a multiprocessor. One warp copies the block's rows of every matrix, E8Slots or
///         E4Slots, as far ahead as the ring has room; 8 warps multiply, a slot each. Between
///         matrices the blocks pass each other packets, and each makes the codes of the next input
///         for itself, while the ring fills; another warp scales norms. Size: Usual where it has
///         room
///   floor: the bytes of all weights, of the read speed
///   supported: decode_layers_supports(); every block runs at the same time
template <typename Slots, typename Size, int kTokens>
__global__ void __launch_bounds__(kThreads + kHelperThreads, 1)
    decode_layers_sm90(BatchView batch, const __grid_constant__ LayersView view, int n_slots,
                       int room_bytes) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(128) std::int8_t bytes[];
    std::int8_t* room = bytes + n_slots * Slots::kBytes;
    auto& shared = *reinterpret_cast<Shared<Slots, Size, kTokens>*>(room + room_bytes);
    const Ring ring{bytes, shared.full, shared.empty, n_slots};
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
        for (int i = 0; i < n_slots; ++i) {
            barrier_init(ring.full[i], 1);
            barrier_init(ring.empty[i], 1);
        }
        barrier_init_fence();
        shared.under_way_max = kUnderWay<Slots, Size>;
        const int heads = view.n_heads * kDim;
        const int qkv = heads + 2 * view.kv.n_kv_heads * kDim;
        const auto set = [&](LayerMatrix m, int n_rows, int unit, int n_cols, int to_second) {
            shared.shares[m].template set<Slots>(n_rows / unit, unit, n_cols, to_second);
        };
        set(kQkv, qkv, Slots::kQkvUnit, view.dim, 0);
        set(kAttnOutput, view.dim, 1 << kDimUnitBits, heads, 0);
        set(kGateUp, view.hidden_dim, 1 << kHiddenUnitBits, view.dim, view.hidden_dim);
        set(kDown, view.dim, 1 << kDimUnitBits, view.hidden_dim, 0);
    }
    Slots::load(view, shared.table);
    for (int i = thread; i < kTokens * Size::kRowsMax; i += kThreads + kHelperThreads)
        (&shared.sums[0][0])[i] = 0;
    // The batch was sent before the first kernel of the forward pass: it can be read already.
    for (int i = thread; i < batch.n_tokens * view.rope.n_pairs; i += kThreads + kHelperThreads) {
        const int t = i / view.rope.n_pairs;
        const int pair = i % view.rope.n_pairs;
        const SinCos turn =
            sincos_turn(view.rope.turns[pair] * static_cast<std::uint64_t>(batch.positions[t]));
        shared.turns[t][pair] = {mul(turn.cos, view.rope.magnitude),
                                 mul(turn.sin, view.rope.magnitude)};  // RPE-5
    }
    __syncthreads();
    if (thread >= kThreads) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kHelperRegisters));
        if (thread < kThreads + kWarpLanes) {
            stream_weights<Slots>(view, shared.shares, ring, shared.under_way_max);
        } else {
            wait_for_kernels_before();
            scale_norms<Slots, Size, kTokens>(batch, view, thread / kWarpLanes - kWarps - 1,
                                              shared);
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kComputeRegisters));
        wait_for_kernels_before();
        compute<Slots, Size, kTokens>(batch, view, ring, room, shared);
    }
#endif
}

/// Shared memory of a block.
struct Rooms {
    int n_slots;
    int room_bytes;
    int bytes;
};

template <typename Slots, typename Size, int kTokens>
Rooms rooms_of(const LayersView& view) {
    constexpr int kShared = static_cast<int>(sizeof(Shared<Slots, Size, kTokens>));
    static_assert(kSharedMax - kTokens * Size::kHiddenMax - kShared >= kWarps * Slots::kBytes,
                  "a slot a warp");
    const int k = std::max({view.dim, view.hidden_dim, view.n_heads * kDim});
    Rooms rooms{};
    rooms.room_bytes =
        std::max({kTokens * k, (kTokens - 1) * k + kRoundBytes, kAttentionBytes + 127}) / 128 * 128;
    const int rest = rooms.room_bytes + kShared;
    rooms.n_slots = std::min((kSharedMax - rest) / Slots::kBytes, Slots::kMax);
    rooms.bytes = rooms.n_slots * Slots::kBytes + rest;
    return rooms;
}

template <typename Slots, typename Size, int kTokens>
void launch(const BatchView& batch, const LayersView& view, int n_multiprocessors, Stream stream) {
    const Rooms rooms = rooms_of<Slots, Size, kTokens>(view);
    check(cudaFuncSetAttribute(decode_layers_sm90<Slots, Size, kTokens>,
                               cudaFuncAttributeMaxDynamicSharedMemorySize, rooms.bytes),
          "shared memory of layers");
    launch_dependent("decode_layers", decode_layers_sm90<Slots, Size, kTokens>,
                     dim3(static_cast<unsigned>(n_multiprocessors)), kThreads + kHelperThreads,
                     static_cast<std::size_t>(rooms.bytes), stream, batch, view, rooms.n_slots,
                     rooms.room_bytes);
}

bool rotates(int k, int block) {
    return (block == 1024 || block == 2048 || block == 4096) && k % block == 0;
}

/// Whether the arrays have room for the rows, columns and heads of the matrices.
template <typename Size>
bool has_room(const LayersView& view, int n_multiprocessors) {
    const auto fits = [&](int n_rows, int unit, int n_each) {
        const int n_units = n_rows / unit;
        const int most = (n_units + n_multiprocessors - 1) / n_multiprocessors * unit;
        return n_rows % unit == 0 && most <= kThreads && most * n_each <= Size::kRowsMax;
    };
    const int heads = view.n_heads * kDim;
    const int group = view.n_heads / view.kv.n_kv_heads;
    const int qkv_unit = view.format == exact::Format::e4 ? E4Slots::kQkvUnit : E8Slots::kQkvUnit;
    return (Size::kWide || group <= kDecodeHeadsMax) && heads <= Size::kRounds * kRound &&
           view.dim <= Size::kRounds * kRound && view.hidden_dim <= Size::kHiddenMax &&
           fits(heads + 2 * view.kv.n_kv_heads * kDim, qkv_unit, 1) &&
           fits(view.dim, 1 << kDimUnitBits, 1) && fits(view.hidden_dim, 1 << kHiddenUnitBits, 2);
}

template <typename Slots>
void launch_sized(const BatchView& batch, const LayersView& view, int n_multiprocessors,
                  Stream stream) {
    if (has_room<Usual>(view, n_multiprocessors)) {
        launch<Slots, Usual, kLayersTokensMax>(batch, view, n_multiprocessors, stream);
    } else {
        launch<Slots, Wide, kLayersTokensMax>(batch, view, n_multiprocessors, stream);
    }
}

}  // namespace

}  // namespace etalon::backend::cuda::layers

namespace etalon::backend::cuda {

std::size_t layers_packets_bytes(const LayersView& view) noexcept {
    return static_cast<std::size_t>(layers::PacketRoom(view).all()) * sizeof(Packet);
}

bool decode_layers_supports(const LayersView& view, int n_tokens, int n_multiprocessors) {
    return n_tokens >= 1 && n_tokens <= kLayersTokensMax && view.n_layers >= 1 &&
           view.n_layers <= kLayersMax && view.kv.head_dim == layers::kDim &&
           view.n_heads % view.kv.n_kv_heads == 0 &&
           view.n_heads * layers::kDim % layers::kStep == 0 &&
           layers::rotates(view.dim, view.dim_block) &&
           layers::rotates(view.hidden_dim, view.hidden_block) && view.attention.n_chunks <= 1 &&
           2 * view.rope.n_pairs == layers::kDim && view.rope.block == layers::kDim &&
           (layers::has_room<layers::Usual>(view, n_multiprocessors) ||
            layers::has_room<layers::Wide>(view, n_multiprocessors));
}

void launch_decode_layers(const BatchView& batch, const LayersView& view, int n_multiprocessors,
                          Stream stream) {
    ETALON_ASSERT(decode_layers_supports(view, batch.n_tokens, n_multiprocessors));
    view.format == exact::Format::e4
        ? layers::launch_sized<layers::E4Slots>(batch, view, n_multiprocessors, stream)
        : layers::launch_sized<layers::E8Slots>(batch, view, n_multiprocessors, stream);
}

}  // namespace etalon::backend::cuda

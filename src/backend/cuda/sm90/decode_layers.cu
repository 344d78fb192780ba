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

/// What a block shares beside the ring and the codes.
template <typename Slots, typename Size>
struct Shared {
    typename Slots::Table table;
    Barrier full[Slots::kMax];
    Barrier empty[Slots::kMax];
    float2 turns[1][kDim / 2];
    int sums[1][Size::kRowsMax];
    float h[kThreads];         // the block's rows
    float lanes[2][kLanes];    // of SUM-1, in turns
    std::uint32_t first_turn;  // of packets
    Place places[kWarps];
    int steps[kWarps];  // at which the warps are: a matrix of a layer each
    std::uint32_t words[kWarps];
    float scale;  // of the codes; NaN: the token has failed
    Share shares[kLayerMatrices];
    int under_way_max;  // slots that are copied at the same time
};

template <typename Slots, typename Size>
constexpr int kSharedBytes = static_cast<int>(sizeof(Shared<Slots, Size>) + 127) / 128 * 128;

/// What a thread's row of a product meets; loaded while the products are made, but for the bias,
/// which few models have.
struct Met {
    const float* bias;
    float d = 0.0F;
    float d_up = 0.0F;
    float w = 0.0F;  // of the norm that follows
};

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
/// in the caches of instructions. Attention and the codes need all registers, so that nothing else
/// stays in them: where a step is, stands in shared memory. What the compiler would put in local
/// memory instead comes from far away after each meeting, which empties the first cache.
template <typename Slots, typename Size>
__device__ void compute(const BatchView& batch, const LayersView& view, const Ring& ring,
                        std::int8_t* room, Shared<Slots, Size>& shared) {
    const int hidden = view.hidden_dim;
    const int n_parts = Size::kWide ? HeadParts(view.n_heads / view.kv.n_kv_heads).n : 1;
    const int n_units = view.kv.n_kv_heads * n_parts;
    const auto n_blocks = gridDim.x;
    const std::uint32_t n_attending = min(n_blocks, static_cast<unsigned>(n_units));
    const int n_steps = kLayerMatrices * view.n_layers;
    const auto unit_of = [&](int u) { return Unit(u, view.kv.n_kv_heads, n_parts); };
    const auto step_now = [&] { return read_anew(shared.steps[own_thread() / kWarpLanes]); };
    const auto layer_now = [&] { return step_now() / kLayerMatrices; };
    const auto matrix_now = [&] { return step_now() % kLayerMatrices; };
    const auto packets_now = [&] { return Packets(view, read_anew(shared.first_turn)); };
    // The block's rows of h, a thread each, and of the input of the matrix of `step` (NRM-2,
    // ROT-3).
    const auto pass_on = [&](int thread, float w, int step) {
        const Packets packets = packets_now();
        const std::uint32_t turn = packets.turn(step);
        const int norm = step % kLayerMatrices == kQkv ? 0 : 1;
        const Share& rows = shared.shares[kDown];
        const int row = rows.first + thread;
        const float h = shared.h[thread];
        const float z = rotate_lanes<0, kDimUnitBits>(mul(w, h), thread % kWarpLanes);
        store_rows<kUnit>(packets.at(0, packets.room.z(norm)), row, z, thread < rows.n, turn);
        store_rows<kUnit>(packets.at(0, packets.room.h(norm)), row, h, thread < rows.n, turn);
    };
    const auto begin = [&] {
        const int thread = own_thread();
        if (thread == 0) shared.first_turn = first_turn(view);
        if (thread < kWarps) {
            shared.places[thread] = {thread, thread, 0, true};
            shared.steps[thread] = 0;
        }
        sync();
        const Share& rows = shared.shares[kDown];
        const int row = rows.first + thread;
        const float w = thread < rows.n ? view.layers[0].attn_norm[row] : 0.0F;
        shared.h[thread] = thread < rows.n ? __ldcg(view.h + row) : 0.0F;
        if (thread / kWarpLanes * kWarpLanes < rows.n) pass_on(thread, w, 0);
        if (thread == 0) hint_arrive(view.meetings + kHints);
    };
    const auto attend_units = [&] {
        // A hint of each block before the layers, and behind each matrix but gate and up.
        await_packets(view.meetings + kHints,
                      static_cast<std::uint32_t>(3 * layer_now() + kAttnOutput + 1) * n_blocks);
        for (int u = static_cast<int>(blockIdx.x); u < n_units; u += static_cast<int>(n_blocks)) {
            const auto nearly = [&] {
                if (own_thread() == 0 && u + static_cast<int>(n_blocks) >= n_units)
                    hint_arrive(view.meetings + kAttended);
            };
            attend<Size, 1>(batch, view, layer_now(), packets_now(), packets_now().turn(step_now()),
                            unit_of(u), shared.turns, *reinterpret_cast<AttentionRoom*>(room),
                            nearly);
        }
    };
    // Phase 1 of a step: the codes of the input.
    const auto make_codes = [&] {
        if (matrix_now() == kAttnOutput) {
            if (blockIdx.x < n_attending) attend_units();
            await_packets(view.meetings + kAttended,
                          static_cast<std::uint32_t>(layer_now() + 1) * n_attending);
            const Packets packets = packets_now();
            quantize_attention<Size::kRounds>(packets.at(0, packets.room.o()),
                                              packets.turn(step_now()), view.n_heads * kDim, room,
                                              shared.words, shared.scale, batch.failed);
        } else if (matrix_now() == kDown) {
            if (own_thread() == 0)
                meeting_wait(view.meetings + kHidden,
                             static_cast<std::uint32_t>(layer_now() + 1) * n_blocks);
            sync();
            if (view.hidden_block == 1024) {
                rotate_quantize<Size, 5>(view.hidden, hidden, room, shared.words, shared.scale,
                                         batch.failed);
            } else if (view.hidden_block == 2048) {
                rotate_quantize<Size, 6>(view.hidden, hidden, room, shared.words, shared.scale,
                                         batch.failed);
            } else {
                rotate_quantize<Size, 7>(view.hidden, hidden, room, shared.words, shared.scale,
                                         batch.failed);
            }
        } else {
            const int layer = layer_now();
            if (matrix_now() == kQkv) {
                for (int u = static_cast<int>(blockIdx.x); u < n_units;
                     u += static_cast<int>(n_blocks))
                    prefetch_unit(batch, view, layer, unit_of(u));
            }
            await_packets(view.meetings + kHints,
                          static_cast<std::uint32_t>(3 * layer + matrix_now() + 1) * n_blocks);
            const Packets packets = packets_now();
            norm_quantize<Size::kRounds>(
                packets.at(0, packets.room.z(matrix_now() == kQkv ? 0 : 1)),
                packets.turn(step_now()), view.dim, 31 - __clz(view.dim_block), room, shared.words);
            named_arrive(kNormBarrier, kNormThreads);  // scale_norms() goes on
        }
        sync();
    };
    const auto met_now = [&] {
        const int step = step_now();
        const int m = matrix_now();
        const int thread = own_thread();
        const LayerView& layer = view.layers[step / kLayerMatrices];
        const Share& share = shared.shares[m];
        Met met{layer.matrices[m].bias};
        if (thread >= share.n) return met;
        const int row = share.first + thread;
        met.d = layer.matrices[m].d[row];
        if (m == kGateUp) met.d_up = layer.matrices[m].d[hidden + row];
        if (m == kAttnOutput) met.w = layer.ffn_norm[row];
        if (m == kDown && step + 1 < n_steps)
            met.w = view.layers[step / kLayerMatrices + 1].attn_norm[row];
        return met;
    };
    // Phase 3: the block's rows of the result, to who needs them next; what is rotated then goes
    // through its first strides.
    const auto finish = [&](const Met& met) {
        const int thread = own_thread();
        const int step = step_now();
        const int m = matrix_now();
        const Share& share = shared.shares[m];
        const int row = share.first + thread;
        const bool mine = thread < share.n;
        if (thread / kWarpLanes * kWarpLanes >= share.n) return;
        const float a = shared.scale;
        float value = mine ? product(shared.sums[0][thread], a, met.d, met.bias, row) : 0.0F;
        if (m == kQkv) {
            const Packets packets = packets_now();
            store_rows<kLaneDims>(packets.at(0, packets.room.qkv()), row, value, mine,
                                  packets.turn(step + 1));
        } else if (m == kGateUp) {
            const float up = mine ? product(shared.sums[0][share.n + thread], a, met.d_up, met.bias,
                                            hidden + row)
                                  : 0.0F;
            value = rotate_lanes<0, kHiddenUnitBits>(swiglu(value, up), thread % kWarpLanes);
            if (mine) view.hidden[row] = value;
        } else {
            const float h = add(shared.h[thread], value);  // RES-1
            shared.h[thread] = h;
            if (step + 1 < n_steps) {
                pass_on(thread, met.w, step + 1);
            } else if (mine) {
                view.h[row] = h;
            }
        }
    };
    begin();
#pragma unroll 1
    while (step_now() < n_steps) {
        make_codes();
        // Phase 2: the products.
        if (own_thread() == 0) store_loose(shared.under_way_max, Slots::kUnderWay);
        const Met met = met_now();
        multiply_share<Slots>(shared.shares[matrix_now()], ring,
                              shared.places[own_thread() / kWarpLanes], shared.table, room,
                              shared.sums);
        const int m = matrix_now();
        const bool behind_norm = m == kQkv || m == kGateUp;
        named_sync(behind_norm ? kScaleBarrier : kComputeBarrier,
                   behind_norm ? kNormThreads : kThreads);
        if (own_thread() == 0) {
            store_loose(shared.under_way_max,
                        m == kQkv ? Slots::kUnderWayAttention : Slots::kUnderWayBetween);
            // Ahead of the packets: they are there by the time that who hears of it reads them.
            if (m != kGateUp && step_now() + 1 < n_steps) hint_arrive(view.meetings + kHints);
        }
        finish(met);
        if (m == kGateUp) {
            sync();
            if (own_thread() == 0) meeting_arrive(view.meetings + kHidden);
        }
        __syncwarp();
        if (own_thread() % kWarpLanes == 0)
            shared.steps[own_thread() / kWarpLanes] = step_now() + 1;
        __syncwarp();
    }
    if (own_thread() == 0) leave(view, packets_now(), n_blocks);
}

/// The scale of the token behind a norm (NRM-1, NRM-3, ERR-1), which the products wait for last: a
/// warp beside those that compute. The norm itself is made by one block for all, with two warps
/// more; `warp` is that of the three.
template <typename Slots, typename Size>
__device__ void scale_norms(const BatchView& batch, const LayersView& view, int warp,
                            Shared<Slots, Size>& shared) {
    const bool makes = blockIdx.x + 1 == gridDim.x;
    if (warp > 0 && !makes) return;
    const Packets packets(view, first_turn(view));
#pragma unroll 1
    for (int i = 0; i < 2 * view.n_layers; ++i) {
        const int lane = own_thread() % kWarpLanes;
        const std::uint32_t turn =
            packets.turn(i / 2 * kLayerMatrices + (i % 2 == 0 ? kQkv : kGateUp));
        Packet* const at = packets.at(0, packets.room.norm(i % 2));
        if (makes) {
            auto& lanes = shared.lanes[i % 2];
            square_lanes(packets.at(0, packets.room.h(i % 2)), view.dim, turn,
                         warp * kWarpLanes + lane, lanes);
            named_sync(kSquaresBarrier, kSquaresThreads);
            if (warp > 0) continue;
            const float norm = norm_scale(lanes, view.dim, view.eps, lane);
            if (lane == 0) single_store(at, norm, turn);
        }
        named_sync(kNormBarrier, kNormThreads);
        std::uint32_t amax = 0;
#pragma unroll
        for (const std::uint32_t word : shared.words)
            amax = max(amax, word);
        const float norm = single_wait(at, turn, single_load(at));
        const bool ok = amax < kInfinityBits && is_norm_scale(norm);
        if (lane == 0) shared.scale = ok ? mul(Quantizer(amax).scale, norm) : NAN;
        if (lane == 0 && !ok && blockIdx.x == 0) *batch.failed = 1;
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
template <typename Slots, typename Size>
__global__ void __launch_bounds__(kThreads + kHelperThreads, 1)
    decode_layers_sm90(BatchView batch, const __grid_constant__ LayersView view, int n_slots,
                       int room_bytes) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    extern __shared__ __align__(128) std::int8_t bytes[];
    // In this order, so that the addresses of most are known to the compiler.
    auto& shared = *reinterpret_cast<Shared<Slots, Size>*>(bytes);
    std::int8_t* room = bytes + kSharedBytes<Slots, Size>;
    const Ring ring{room + room_bytes, shared.full, shared.empty, n_slots};
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
        for (int i = 0; i < n_slots; ++i) {
            barrier_init(ring.full[i], 1);
            barrier_init(ring.empty[i], kWarpArrivals);
        }
        barrier_init_fence();
        shared.under_way_max = Slots::kUnderWay;
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
    for (int i = thread; i < Size::kRowsMax; i += kThreads + kHelperThreads)
        shared.sums[0][i] = 0;
    // The batch was sent before the first kernel of the forward pass: it can be read already.
    for (int pair = thread; pair < view.rope.n_pairs; pair += kThreads + kHelperThreads) {
        const SinCos turn =
            sincos_turn(view.rope.turns[pair] * static_cast<std::uint64_t>(batch.positions[0]));
        shared.turns[0][pair] = {mul(turn.cos, view.rope.magnitude),
                                 mul(turn.sin, view.rope.magnitude)};  // RPE-5
    }
    __syncthreads();
    if (thread >= kThreads) {
        asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kHelperRegisters));
        if (thread < kThreads + kWarpLanes) {
            stream_weights<Slots>(view, shared.shares, ring, shared.under_way_max);
        } else {
            wait_for_kernels_before();
            scale_norms<Slots, Size>(batch, view, thread / kWarpLanes - kWarps - 1, shared);
        }
    } else {
        asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kComputeRegisters));
        wait_for_kernels_before();
        compute<Slots, Size>(batch, view, ring, room, shared);
    }
#endif
}

/// Shared memory of a block.
struct Rooms {
    int n_slots;
    int room_bytes;
    int bytes;
};

template <typename Slots, typename Size>
Rooms rooms_of(const LayersView& view) {
    constexpr int kShared = kSharedBytes<Slots, Size>;
    constexpr int kRoomMax = std::max(Size::kHiddenMax, kRoundBytes);
    static_assert(kSharedMax - kRoomMax - kShared >= kWarps * Slots::kBytes, "a slot a warp");
    const int k = std::max({view.dim, view.hidden_dim, view.n_heads * kDim});
    Rooms rooms{};
    rooms.room_bytes = std::max({k, kRoundBytes, kAttentionBytes + 127}) / 128 * 128;
    const int rest = rooms.room_bytes + kShared;
    rooms.n_slots = std::min((kSharedMax - rest) / Slots::kBytes, Slots::kMax);
    rooms.bytes = rooms.n_slots * Slots::kBytes + rest;
    return rooms;
}

template <typename Slots, typename Size>
void launch(const BatchView& batch, const LayersView& view, int n_multiprocessors, Stream stream) {
    const Rooms rooms = rooms_of<Slots, Size>(view);
    let_have_shared("decode_layers", decode_layers_sm90<Slots, Size>, rooms.bytes);
    launch_dependent("decode_layers", decode_layers_sm90<Slots, Size>,
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
        launch<Slots, Usual>(batch, view, n_multiprocessors, stream);
    } else {
        launch<Slots, Wide>(batch, view, n_multiprocessors, stream);
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

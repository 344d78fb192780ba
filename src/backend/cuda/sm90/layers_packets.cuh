// SPDX-License-Identifier: Apache-2.0
// What the blocks of decode_layers.cu pass to each other in packets (ptx/packet.cuh): the room of a
// token, and how values stand in it. The input of down alone, which is longest, goes the usual way:
// at that meeting, once a layer, all blocks are behind their reads of every packet of the layer,
// and each place of a packet is written once a layer.
#pragma once

#include "backend/cuda/ptx/packet.cuh"
#include "backend/cuda/sm90/layers_stream.cuh"

namespace etalon::backend::cuda::layers {

/// Packets of a unit of so many values; the last one may not be full.
__host__ __device__ constexpr int packets_of(int n_values) {
    return (n_values + 2) / 3;
}
inline constexpr int kUnit = 1 << kDimUnitBits;
inline constexpr int kUnitPackets = packets_of(kUnit);
inline constexpr int kLanePackets = packets_of(kLaneDims);  // of a lane's elements of a head
/// Packets that a thread reads of kRound values.
inline constexpr int kMinePackets = kRound / kUnit * kUnitPackets / kThreads;
static_assert(kMinePackets * kThreads * kUnit == kRound * kUnitPackets);

/// Counters of LayersView::meetings.
enum Meeting : int {
    kHints,     ///< blocks that are behind the products of a step and about to write packets; one
                ///< that writes its part of the input of down has waited until all had read theirs
    kAttended,  ///< blocks that are about to write what they attended for
    kHidden,    ///< blocks whose part of the input of down is there
    kLeft,      ///< blocks that have ended
    kTurns,     ///< of the packets, before this pass
    kMeetings
};
static_assert(kMeetings == kLayersMeetings);

/// Places of the packets of one token, in their order.
struct PacketRoom {
    int n_dim;    // packets of a row of h
    int n_qkv;    // of queries, keys and values
    int n_heads;  // of o

    __host__ __device__ explicit PacketRoom(const LayersView& view)
        : n_dim(view.dim / kUnit * kUnitPackets),
          n_qkv((view.n_heads + 2 * view.kv.n_kv_heads) * (kDim / kLaneDims) * kLanePackets),
          n_heads(view.n_heads * kDim / kUnit * kUnitPackets) {}
    /// Behind the norm of attention (0), of the feed-forward (1).
    __host__ __device__ int z(int norm) const { return norm * n_dim; }
    __host__ __device__ int h(int norm) const { return (2 + norm) * n_dim; }
    __host__ __device__ int qkv() const { return 4 * n_dim; }
    __host__ __device__ int o() const { return qkv() + n_qkv; }
    __host__ __device__ int norm(int norm) const { return o() + n_heads + norm; }
    __host__ __device__ int all() const { return norm(2); }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// The turn of the first step of a pass; behind the kernels before.
__device__ inline std::uint32_t first_turn(const LayersView& view) {
    return __ldcg(view.meetings + kTurns) + 1;
}

/// The packets of a pass. Those that step `step` reads (a matrix of a layer) have turn(step).
struct Packets {
    PacketRoom room;
    Packet* packets;
    std::uint32_t first_turn;

    __device__ Packets(const LayersView& view, std::uint32_t first)
        : room(view), packets(static_cast<Packet*>(view.packets)), first_turn(first) {}
    __device__ std::uint32_t turn(int step) const {
        return first_turn + static_cast<std::uint32_t>(step);
    }
    __device__ Packet* at(int t, int place) const { return packets + t * room.all() + place; }
};

/// Values of successive rows, a lane each, to packets; all lanes of a warp, whole units of which
/// are `there`. Of a lane's elements of a head the last one is a single.
template <int kOfUnit>
__device__ void store_rows(Packet* to, int row, float v, bool there, std::uint32_t turn) {
    const int place = row % kOfUnit;
    const float second = __shfl_down_sync(kFullWarp, v, 1);
    const float third = __shfl_down_sync(kFullWarp, v, 2);
    if (!there || place % 3 != 0) return;
    to += row / kOfUnit * packets_of(kOfUnit) + place / 3;
    if (kOfUnit == kLaneDims && place + 1 == kOfUnit) {
        single_store(to, v, turn);
    } else {
        packet_store(to, v, second, third, turn);
    }
}

/// A head of o, kLaneDims elements a lane, to packets.
__device__ inline void store_head(Packet* to, const float (&o)[kLaneDims], int lane,
                                  std::uint32_t turn) {
    static_assert(kLaneDims == 4 && kUnit == 16);
    const float next = __shfl_down_sync(kFullWarp, o[0], 1);
    const float after = __shfl_down_sync(kFullWarp, o[1], 1);
    to += lane / 4 * kUnitPackets;
    switch (lane % 4) {  // elements 0 to 3, 4 to 7, 8 to 11, 12 to 15 of the unit
        case 0:
            packet_store(to, o[0], o[1], o[2], turn);
            packet_store(to + 1, o[3], next, after, turn);
            break;
        case 1:
            packet_store(to + 2, o[2], o[3], next, turn);
            break;
        case 2:
            packet_store(to + 3, o[1], o[2], o[3], turn);
            break;
        default:
            packet_store(to + 4, o[0], o[1], o[2], turn);
            packet_store(to + 5, o[3], 0.0F, 0.0F, turn);
    }
}

/// The values of packet i of units, from element first(i) on.
struct Elements {
    int first;
    int n;

    __device__ explicit Elements(int i)
        : first(i / kUnitPackets * kUnit + i % kUnitPackets * 3),
          n(i % kUnitPackets + 1 < kUnitPackets ? 3 : kUnit - 3 * (kUnitPackets - 1)) {}
};

/// A thread's packets of kRounds rounds of values, all under way at once: number
/// kThreads j + thread of a round, for j < kMinePackets.
template <int kRounds>
struct MyPackets {
    Packet packets[kRounds][kMinePackets];
    int thread = own_thread();

    __device__ int number(int round, int j) const {
        return (round * kMinePackets + j) * kThreads + thread;
    }
    __device__ void load(const Packet* from, int n_packets, std::uint32_t turn) {
#pragma unroll
        for (int round = 0; round < kRounds; ++round) {
#pragma unroll
            for (int j = 0; j < kMinePackets; ++j) {
                packets[round][j] = {{0.0F, 0.0F, 0.0F}, turn};
                if (number(round, j) < n_packets)
                    packets[round][j] = packet_load(from + number(round, j));
            }
        }
#pragma unroll
        for (int round = 0; round < kRounds; ++round) {
#pragma unroll
            for (int j = 0; j < kMinePackets; ++j)
                packet_wait(from + number(round, j), turn, packets[round][j]);
        }
    }
};

#endif

}  // namespace etalon::backend::cuda::layers

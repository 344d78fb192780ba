// SPDX-License-Identifier: Apache-2.0
// Attention of decode_layers.cu: RoPE of the heads, their keys and values to the cache, o of a
// context of one chunk (spec RPE-6, ROT-6, QNT-2, ATT-1 to ATT-12, ERR-1, ERR-2).
#pragma once

#include "backend/cuda/ptx/copy.cuh"
#include "backend/cuda/sm80/attention_decode.cuh"
#include "backend/cuda/sm80/rope_head.cuh"
#include "backend/cuda/sm90/layers_packets.cuh"

namespace etalon::backend::cuda::layers {

/// The query heads of a KV head in parts that a unit attends for.
struct HeadParts {
    int n;
    int each;  // heads of all but the last, which has at least one

    __host__ __device__ explicit HeadParts(int n_heads)
        : n((n_heads + kDecodeHeadsMax - 1) / kDecodeHeadsMax), each((n_heads + n - 1) / n) {}
};

/// Pages that the room holds for so many heads.
__host__ __device__ constexpr int pages_at_once(int n_heads) {
    return n_heads <= 4 ? kWarps : kWarps / 2;
}

/// What attention keeps where the codes lie otherwise.
struct AttentionRoom {
    PageSums sums[kWarps][kDecodeHeadsMax];
    float query_scales[kDecodeHeadsMax];
    std::int8_t queries[kDecodeHeadsMax][kDim];
    int4 a[];  // [pages][heads][kDim / 4]
};
inline constexpr int kAttentionBytes =
    static_cast<int>(sizeof(AttentionRoom)) +
    pages_at_once(kDecodeHeadsMax) * kDecodeHeadsMax * kDim * static_cast<int>(sizeof(int));
static_assert(pages_at_once(4) * 4 <= pages_at_once(kDecodeHeadsMax) * kDecodeHeadsMax);

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

/// A (token, KV head), and a part of the query heads.
struct Unit {
    int t;
    int kv_head;
    int part;

    __device__ Unit(int number, int n_kv_heads, int n_parts)
        : t(number / n_parts / n_kv_heads),
          kv_head(number / n_parts % n_kv_heads),
          part(number % n_parts) {}
};

/// The query heads of a unit.
struct UnitHeads {
    int first;
    int n;

    template <typename Size>
    __device__ static UnitHeads of(const LayersView& view, const Unit& unit) {
        const int group = view.n_heads / view.kv.n_kv_heads;
        if constexpr (!Size::kWide) return {unit.kv_head * group, group};
        const HeadParts parts(group);
        const int begin = unit.part * parts.each;
        return {unit.kv_head * group + begin, min(parts.each, group - begin)};
    }
};

/// Brings the pages of a unit to the second cache.
__device__ inline void prefetch_unit(const BatchView& batch, const LayersView& view, int layer,
                                     const Unit& unit) {
    constexpr int kLine = 128;
    constexpr int kLines = kPageSlots * kDim / kLine;  // of the keys of a page, or of its values
    const auto t = static_cast<std::size_t>(unit.t);
    const Visible visible(batch.positions[t], view.attention.sliding_window);
    const int first = visible.first / kPageSlots;
    const int last = visible.last / kPageSlots;
    for (int i = own_thread(); i < (last - first + 1) * kLines; i += kThreads) {
        const int page = page_of(batch, t, (first + i / kLines) * kPageSlots);
        const std::size_t index = head_page(view.kv, layer, page, unit.kv_head);
        const std::size_t at =
            index * kPageSlots * kDim + static_cast<std::size_t>(i % kLines) * kLine;
        prefetch_line(view.kv.keys + at);
        prefetch_line(view.kv.values + at);
    }
}

/// The heads that a unit needs: its queries to `room`; keys and values of the tokens of the batch
/// that it sees to the cache (RPE-6, ROT-6, QNT-2, ERR-1). Units of one KV head may write the same
/// bytes.
template <typename Size, int kTokens>
__device__ void turn_heads(const BatchView& batch, const LayersView& view, int layer,
                           const Packets& packets, std::uint32_t turn, const Unit& unit,
                           const float2 (&turns)[kTokens][kDim / 2], AttentionRoom& room) {
    const int warp = own_thread() / kWarpLanes;
    const int lane = own_thread() % kWarpLanes;
    const UnitHeads mine = UnitHeads::of<Size>(view, unit);
    for (int i = warp; i < mine.n + 2 * batch.n_tokens; i += kWarps) {
        const bool is_query = i < mine.n;
        const bool is_value = !is_query && (i - mine.n) % 2 == 1;
        const int t = is_query ? unit.t : (i - mine.n) / 2;
        const std::int32_t position = batch.positions[t];
        int head = mine.first + i;
        if (!is_query) {
            if (batch.sequence_of[t] != batch.sequence_of[unit.t] ||
                position > batch.positions[unit.t])
                continue;
            head = view.n_heads + unit.kv_head + (is_value ? view.kv.n_kv_heads : 0);
        }
        const Packet* from =
            packets.at(t, packets.room.qkv() + (head * kWarpLanes + lane) * kLanePackets);
        Packet first_three = packet_load(from);
        const Single last_one = single_load(from + 1);
        packet_wait(from, turn, first_three);
        float v[kLaneDims] = {first_three.v[0], first_three.v[1], first_three.v[2],
                              single_wait(from + 1, turn, last_one)};
        if (!is_value) {
            turn_lane<kLaneDims>(v, turns[t], view.rope.interleaved, lane);
            butterfly_lane<kLaneDims>(v, lane);
        }
        std::uint32_t amax = 0;
#pragma unroll
        for (const float value : v)
            amax = max(amax, magnitude_bits(value));
        const Quantizer quantizer(__reduce_max_sync(kFullWarp, amax));
        if (!quantizer.finite && lane == 0) batch.failed[t] = 1;  // ERR-1
        std::uint32_t packed = 0;
#pragma unroll
        for (int j = 0; j < kLaneDims; ++j)
            packed |= (static_cast<std::uint32_t>(quantizer.code(v[j])) & 0xFFU) << (8 * j);
        const int first = kLaneDims * lane;
        if (is_query) {
            *reinterpret_cast<std::uint32_t*>(room.queries[i] + first) = packed;
            if (lane == 0) room.query_scales[i] = quantizer.scale;
            continue;
        }
        const std::int32_t page = page_of(batch, static_cast<std::size_t>(t), position);
        const std::size_t index = head_page(view.kv, layer, page, unit.kv_head);
        const int slot = position % kPageSlots;
        if (is_value) {
            std::int8_t* to = view.kv.values + value_address(view.kv, index, slot, first);
#pragma unroll
            for (int j = 0; j < kLaneDims; ++j)
                to[j * kValueRun] = static_cast<std::int8_t>(packed >> (8 * j) & 0xFFU);
        } else {
            *reinterpret_cast<std::uint32_t*>(view.kv.keys +
                                              key_address(view.kv, index, slot, first)) = packed;
        }
        if (lane == 0)
            (is_value ? view.kv.value_scales : view.kv.key_scales)[index * kPageSlots + slot] =
                quantizer.scale;
    }
}

/// o of the heads of a unit to packets (ATT-1 to ATT-12; ATT-10 joins nothing). `nearly` is called
/// before the last pages are joined.
template <typename Size, int kTokens, typename Nearly>
__device__ void attend(const BatchView& batch, const LayersView& view, int layer,
                       const Packets& packets, std::uint32_t turn, const Unit& unit,
                       const float2 (&turns)[kTokens][kDim / 2], AttentionRoom& room,
                       const Nearly& nearly) {
    const int warp = own_thread() / kWarpLanes;
    const int lane = own_thread() % kWarpLanes;
    const auto t = static_cast<std::size_t>(unit.t);
    const Visible visible(batch.positions[t], view.attention.sliding_window);
    turn_heads<Size, kTokens>(batch, view, layer, packets, turn, unit, turns, room);
    sync();
    const UnitHeads heads = UnitHeads::of<Size>(view, unit);
    const int at_once = pages_at_once(heads.n);
    const int first = visible.first / kPageSlots;
    const int last = visible.last / kPageSlots;
    const int row = min(lane / 4, heads.n - 1);  // rows without a head repeat the last one
    const float c = mul(room.query_scales[row], view.attention.constant);  // ATT-3
    const auto* q = reinterpret_cast<const int4*>(room.queries[row]);
    State<kLaneDims> state;  // of head `warp`
    bool ok = true;
    for (int begin = first; begin <= last; begin += at_once) {
        const int page = begin + warp;
        if (warp < at_once && page <= last) {
            const std::size_t index =
                head_page(view.kv, layer, page_of(batch, t, page * kPageSlots), unit.kv_head);
            attend_page<kDim>(
                view.kv, index, [&](int run) { return q[run]; }, c, Slots(visible, page), heads.n,
                lane, room.sums[warp], room.a + warp * heads.n * (kDim / 4));
        }
        sync();
        if (begin + at_once > last) nearly();
        if (warp < heads.n) {
            for (int place = 0; place < min(at_once, last - begin + 1); ++place) {
                const PageSums sums = room.sums[place][warp];
                const int4 a = room.a[(place * heads.n + warp) * (kDim / 4) + lane];
                const int mine[kLaneDims] = {a.x, a.y, a.z, a.w};
                join_page(sums, mine, state);
                ok = ok && sums.ok;
            }
        }
        sync();
    }
    if (warp >= heads.n) return;
    const float r = mul(divide(1.0F, state.l), 65536.0F);
    float o[kLaneDims];
#pragma unroll
    for (int j = 0; j < kLaneDims; ++j)
        o[j] = ok ? mul(state.o[j], r) : 0.0F;  // ATT-11, ERR-2
    if (!ok && lane == 0) batch.failed[t] = 1;
    const int head = heads.first + warp;
    store_head(packets.at(unit.t, packets.room.o() + head * (kDim / kUnit) * kUnitPackets), o, lane,
               turn);
}

#endif

}  // namespace etalon::backend::cuda::layers

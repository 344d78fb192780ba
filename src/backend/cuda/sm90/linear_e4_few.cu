// SPDX-License-Identifier: Apache-2.0
// E4 linear layers of up to 256 tokens on the tensor cores of sm_90a: the codes stream by and
// become int8 in the registers that the products read them from (spec FMT-17, LIN-2, LIN-3).
//
// A lane has 16 successive columns of a row, which share an index; the products want four columns
// of it each, four columns of the next lane behind them. So the columns of x stand in the order of
// the products: ActivationsView::across.
#include "backend/cuda/sm80/e4.cuh"
#include "backend/cuda/sm90/linear_few.cuh"

namespace etalon::backend::cuda::few {

namespace {

/// A group (sm80/e4.cuh) of each tile of 16 rows. What is behind the tokens is never looked at.
struct E4Weights {
    static constexpr int kStep = kE4Columns;
    static constexpr int kUp = kE4TileRows;
    static constexpr int kStagesMin = 2;
    static constexpr int kTokensMin = 16;
    static constexpr int kTiles = kTileRows / kE4TileRows;
    template <int kTokens>
    struct Stage {
        std::int8_t w[kTiles * kE4GroupBytes];
        std::int8_t x[kTokens * kStep];  // tiles of 128 columns
    };
    struct Source {
        const std::byte* groups;
        int n_groups;  // of a tile
        int n_tiles;
        E4Table table;
    };
    struct Room {
        E4Room table;
    };
    static constexpr int blocks(int n_tokens) { return n_tokens <= 64 ? 2 : 1; }
    static constexpr int registers(int n_tokens) {
        return n_tokens > 128 ? 232 : n_tokens == 64 ? 104 : 0;
    }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __device__ static void load(const Source& source, Room& room) {
        load_e4_rows<E4Form::bits>(source.table, room.table.rows());
    }

    __device__ static int n_there(const Source& source, int first_row) {
        return min(kTiles, source.n_tiles - first_row / kE4TileRows);
    }
    __device__ static int bytes(const Source& source, int first_row) {
        return n_there(source, first_row) * kE4GroupBytes;
    }

    /// kGate: tiles of gate and of up in turns.
    template <bool kGate>
    __device__ static void copy(const Source& source, std::int8_t* to, int step, int first_row,
                                Barrier& full) {
        const int n = n_there(source, first_row);
        for (int i = 0; i < n; ++i) {
            int tile = first_row / kE4TileRows + i;
            if constexpr (kGate) tile = tile / 2 + tile % 2 * (source.n_tiles / 2);
            const auto group = static_cast<std::size_t>(tile) * source.n_groups + step;
            copy_bytes_once(to + i * kE4GroupBytes, source.groups + group * kE4GroupBytes,
                            kE4GroupBytes, full);
        }
    }

    /// The sums of 64 rows and all tokens over the block's part of K; a warp has a tile. While one
    /// chunk is multiplied the next one becomes int8.
    template <int kTokens>
    __device__ static void multiply(Shared<E4Weights, kTokens>& shared, int n_steps, int n_stages,
                                    int (&sums)[kTokens / 2]) {
        const int thread = static_cast<int>(threadIdx.x);
        const int lane = thread % kWarpLanes;
        const E4Lookup lookup(shared.room.table.rows());
#pragma unroll
        for (int& sum : sums)
            sum = 0;
        RingPlace place;
        int before = 0;  // the stage whose products may still be under way
        for (int step = 0; step < n_steps; ++step) {
            const Stage<kTokens>& stage = shared.stages[place.stage];
            const std::uint64_t x = wgmma_rows(stage.x);
            barrier_wait(shared.full[place.stage], place.parity);
            E4Words words;
            words.load_shared(stage.w + thread / kWarpLanes * kE4GroupBytes, lane);
            uint4 rows[2] = {lookup.row<0>(words.indices, 0), lookup.row<1>(words.indices, 0)};
#pragma unroll
            for (int chunk = 0; chunk < kE4Chunks; ++chunk) {
                constexpr int kOfTile = kTensorTileBytes / kE4ChunkColumns;
                const uint4& codes = words.codes[chunk];
                const int4 low = E4Terms(rows[0], codes.x, codes.y).values();
                const int4 high = E4Terms(rows[1], codes.z, codes.w).values();
                if (chunk + 1 < kE4Chunks) {
                    rows[0] = lookup.row<0>(words.indices, chunk + 1);
                    rows[1] = lookup.row<1>(words.indices, chunk + 1);
                }
                const std::uint32_t a[2][4] = {
                    {word(low.x), word(high.x), word(low.y), word(high.y)},
                    {word(low.z), word(high.z), word(low.w), word(high.w)}};
                const int column = chunk / kOfTile * kTensorTileBytes * kTokens +
                                   chunk % kOfTile * kE4ChunkColumns;
                wgmma_fence();
                wgmma_i8_rows<kTokens>(sums, a[0], x, column);
                wgmma_i8_rows<kTokens>(sums, a[1], x, column + kProductK);
                wgmma_commit();
                wgmma_wait<1>();
                if (chunk == 0) barrier_arrive_warp(shared.empty[before], lane, step > 0);
            }
            before = place.stage;
            place.next(n_stages);
        }
        wgmma_wait<0>();
    }

  private:
    __device__ static std::uint32_t word(int v) {
        return static_cast<std::uint32_t>(v);
    }

    /// Adds the products of all tokens with a in registers; x [kTokens, 128] by wgmma_rows(), from
    /// byte `at` on.
    template <int kTokens>
    __device__ static void wgmma_i8_rows(int (&sums)[kTokens / 2], const std::uint32_t (&a)[4],
                                         std::uint64_t x, int at) {
        constexpr int kOnce = std::min(kTokens, 128);
        constexpr int kUnit = 16;  // of an address in the descriptor
        using Part = int[kOnce / 2];
#pragma unroll
        for (int first = 0; first < kTokens; first += kOnce) {
            wgmma_i8(reinterpret_cast<Part&>(sums[first / 2]), a,
                     x + static_cast<std::uint64_t>((at + first * kTensorTileBytes) / kUnit), 1);
        }
    }
#endif
};

template <bool kGate>
void launch_e4(const E4View& w, const E4Table& table, const ActivationsView& x,
               const LinearOut& out, int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kFewTokensMax && w.n_rows >= 1);
    ETALON_ASSERT(w.stride == x.stride && x.across);
    ETALON_ASSERT(out.token_of == nullptr && out.group == nullptr);
    const E4Weights::Source source{w.groups, (w.stride + kE4Columns - 1) / kE4Columns,
                                   (w.n_rows + kE4TileRows - 1) / kE4TileRows, table};
    Work work{};
    work.n_rows = w.n_rows;
    work.d = w.d;
    launch_tokens<E4Weights>(w.n_rows, out.n_tokens, n_multiprocessors, [&](auto tokens) {
        launch<E4Weights, tokens.value, kGate>(work, source, x, out, n_multiprocessors, stream);
    });
}

}  // namespace

}  // namespace etalon::backend::cuda::few

namespace etalon::backend::cuda {

void launch_linear_e4_few_sm90(const E4View& w, const E4Table& table, const ActivationsView& x,
                               const LinearOut& out, int n_multiprocessors, Stream stream) {
    few::launch_e4<false>(w, table, x, out, n_multiprocessors, stream);
}

void launch_gate_up_e4_few_sm90(const E4View& w, const E4Table& table, const ActivationsView& x,
                                const LinearOut& out, int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(w.n_rows % (2 * few::E4Weights::kUp) == 0 && !out.add);
    few::launch_e4<true>(w, table, x, out, n_multiprocessors, stream);
}

}  // namespace etalon::backend::cuda

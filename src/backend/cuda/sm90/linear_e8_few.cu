// SPDX-License-Identifier: Apache-2.0
// E8 linear layers of up to 256 tokens on the tensor cores of sm_90a: the weights stream by,
// through a ring that the copy engine fills (spec LIN-2, LIN-3).
#include "backend/cuda/sm90/linear_few.cuh"

namespace etalon::backend::cuda::few {

namespace {

/// Rows of 128 bytes, swizzled by the copy engine. What is behind the tokens is never looked at.
struct E8Weights {
    static constexpr int kStep = kTensorTileBytes;
    static constexpr int kUp = 8;
    static constexpr int kStagesMin = 3;
    static constexpr int kTokensMin = 8;
    template <int kTokens>
    struct Stage {
        std::int8_t w[kTileRows * kStep];
        std::int8_t x[kTokens * kStep];
    };
    struct Source {
        CUtensorMap map;
    };
    struct Room {};
    static constexpr int blocks(int n_tokens) { return n_tokens <= 128 ? 2 : 1; }
    static constexpr int registers(int) { return 0; }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    __device__ static void load(const Source&, Room&) {}

    __device__ static int bytes(const Source&, int) {
        return kTileRows * kStep;
    }

    template <bool kGate>
    __device__ static void copy(const Source& source, std::int8_t* to, int step, int first_row,
                                Barrier& full) {
        if constexpr (kGate) {
            copy_gate_up_once(to, source.map, step * kStep, first_row, full);
        } else {
            copy_tile_once(to, source.map, step * kStep, first_row, full);
        }
    }

    /// The sums of 64 rows and all tokens over the block's part of K.
    template <int kTokens>
    __device__ static void multiply(Shared<E8Weights, kTokens>& shared, int n_steps, int n_stages,
                                    int (&sums)[kTokens / 2]) {
        const int group = static_cast<int>(threadIdx.x) / kGroupThreads;
        RingPlace place;
        for (int step = 0; step < n_steps; ++step) {
            const Stage<kTokens>& stage = shared.stages[place.stage];
            barrier_wait(shared.full[place.stage], place.parity);
            const std::int8_t* w = stage.w + group * (kTileRows / kGroups) * kStep;
            wgmma_fence();
#pragma unroll
            for (int k = 0; k < kStep; k += kProductK) {
                wgmma_i8(sums, wgmma_rows(w + k), wgmma_rows(stage.x + k),
                         step > 0 || k > 0 ? 1 : 0);
            }
            wgmma_commit();
            wgmma_wait<0>();
            barrier_arrive_warp(shared.empty[place.stage],
                                static_cast<int>(threadIdx.x) % kWarpLanes);
            place.next(n_stages);
        }
    }
#endif
};

template <bool kGate>
void launch_e8(const E8View& w, const ActivationsView& x, const LinearOut& out,
               int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(out.n_tokens >= 1 && out.n_tokens <= kFewTokensMax && w.n_rows >= 1);
    ETALON_ASSERT(w.stride == x.stride && out.token_of == nullptr && !x.across);
    const E8Weights::Source source{kGate ? tensor_map_gate_up(w.q, w.n_rows, w.stride, kTileRows)
                                         : tensor_map(w.q, w.n_rows, w.stride, kTileRows)};
    Work work{};
    work.n_rows = w.n_rows;
    work.d = w.d;
    work.fresh = w.fresh;
    launch_tokens<E8Weights>(w.n_rows, out.n_tokens, n_multiprocessors, [&](auto tokens) {
        launch<E8Weights, tokens.value, kGate>(work, source, x, out, n_multiprocessors, stream);
    });
}

}  // namespace

}  // namespace etalon::backend::cuda::few

namespace etalon::backend::cuda {

void launch_linear_e8_few_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                               int n_multiprocessors, Stream stream) {
    few::launch_e8<false>(w, x, out, n_multiprocessors, stream);
}

void launch_gate_up_e8_few_sm90(const E8View& w, const ActivationsView& x, const LinearOut& out,
                                int n_multiprocessors, Stream stream) {
    ETALON_ASSERT(w.n_rows % (2 * few::E8Weights::kUp) == 0 && !out.add);
    few::launch_e8<true>(w, x, out, n_multiprocessors, stream);
}

}  // namespace etalon::backend::cuda

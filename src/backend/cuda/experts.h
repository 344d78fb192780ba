// SPDX-License-Identifier: Apache-2.0
// Layers with experts on the card: what finds their matrices, the room for the choice of a pass,
// and which kernels multiply.
#pragma once

#include <memory>

#include "backend/cuda/buffers.h"
#include "backend/cuda/device.h"
#include "backend/cuda/loader.h"

namespace etalon::backend::cuda {

/// The matrices of one kind: where each of them lies, on the card, when all are E8.
struct ExpertTable {
    DeviceArray<E8Matrix> matrices;  ///< [n_experts]; empty: other formats, or a bias
    DeviceArray<std::byte> maps;     ///< of experts_maps_e8_sm90(); empty: no such kernels
    bool gate_up = false;            ///< the maps are of gate and up in turns
    int n_rows = 0;
    int stride = 0;

    E8Groups groups(const RoutingView& routing, int n_slots) const {
        return {matrices.data(), routing.active, routing.begin, routing.n_experts,
                n_slots,         n_rows,         stride,        routing.settled};
    }
};

struct CudaExperts final : Experts {
    CudaExperts(ExpertMatrices its_matrices, int its_n_used, bool has_sm90, Loader& loader);

    ExpertTable gate_up;
    ExpertTable down;
    FloatsView router;
};

/// Which experts the tokens of a pass use. One layer after the other writes it.
class RoutingRoom {
  public:
    bool holds(int n_tokens, const Experts& experts) const noexcept;
    /// Nothing on the card uses it.
    void reserve(int n_tokens, const Experts& experts);
    RoutingView view(int n_tokens, const Experts& experts) const;
    const void* address() const noexcept { return words_.data(); }

  private:
    static std::size_t words_of(int n_tokens, const Experts& experts);
    DeviceArray<std::uint32_t> words_;
    DeviceArray<std::uint32_t> n_ended_{1};
};

/// Whether so many tokens are multiplied by run_experts_together().
bool takes_together(const ExpertTable& table, int n_tokens);
/// y[pair, row] for all pairs at once: matrices[e] times the rows of x, which has one for each
/// pair. Of a table with gate_up SwiGLU of the two products, half as many rows.
void run_experts_together(const ExpertTable& table, const ActivationsView& x,
                          const RoutingView& routing, int n_pairs, float* y, const Device& device);
/// y[pair, row] for all pairs: matrices[e] times the rows token_of[pair] of x, or row `pair` where
/// that is null. At most n_tokens pairs have one expert. Returns whether the routing is settled for
/// all kernels behind: those of a grouped launch wait before they let the next one start.
bool run_experts(const ExpertTable& table, std::span<const std::unique_ptr<LinearWeights>> matrices,
                 const CudaActivations& x, const RoutingView& routing, const std::int32_t* token_of,
                 int n_tokens, float* y, const Device& device);

}  // namespace etalon::backend::cuda

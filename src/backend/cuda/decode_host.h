// SPDX-License-Identifier: Apache-2.0
// The layers of a pass of one token as one kernel (sm90/decode_layers.cu): whether it takes them.
// Its blocks wait for one another, so all of them have to run at once: several processes that share
// a card take turns on it, but must not run side by side (MPS).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "backend/cuda/buffers.h"
#include "backend/cuda/device.h"
#include "backend/cuda/sm90/kernels.h"

namespace etalon::backend::cuda {

/// Contexts of more chunks are left to kernels that spread them over the card.
inline constexpr int kLayersChunksMax = 1;

/// Which shapes of models the kernel has been tried for: its first passes are computed by the
/// operations one by one as well, and it is chosen where both gave the same bits each time.
class LayersTrials {
  public:
    enum class State : std::uint8_t { trying, trusted, refused };

    /// Without trials every shape is trusted.
    explicit LayersTrials(bool wanted) noexcept : wanted_(wanted) {}
    State state(const LayersView& view) const;
    /// What a pass showed.
    void add(const LayersView& view, bool equal);
    /// Grows with each trial.
    int n_trials() const noexcept { return n_trials_; }

  private:
    struct Shape {
        exact::Format format;
        int n_layers;
        int dim;
        int hidden_dim;
        int n_heads;
        int n_kv_heads;

        explicit Shape(const LayersView& view) noexcept
            : format(view.format),
              n_layers(view.n_layers),
              dim(view.dim),
              hidden_dim(view.hidden_dim),
              n_heads(view.n_heads),
              n_kv_heads(view.kv.n_kv_heads) {}
        bool operator==(const Shape&) const = default;
    };
    struct Known {
        Shape shape;
        int n_equal = 0;
        bool refused = false;
    };

    bool wanted_;
    int n_trials_ = 0;
    std::vector<Known> known_;
};

/// What the kernel reads of a model, with the rooms of `layers`; nullopt where it does not take the
/// shapes. `packets` and `meetings` are left to the caller.
std::optional<LayersView> layers_view(const Layers& layers, const RopeView& rope,
                                      const CudaKvCache& kv, int n_tokens, int n_chunks,
                                      const Device& device);

}  // namespace etalon::backend::cuda

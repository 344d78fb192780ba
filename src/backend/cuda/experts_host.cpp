// SPDX-License-Identifier: Apache-2.0
// Layers with experts on the card (spec FWD-5). The host knows how many pairs there are, the card
// alone whose: kernels are launched for the most tokens that an expert can have.
#include <algorithm>
#include <vector>

#include "backend/cuda/experts.h"
#include "backend/cuda/linear.h"
#include "backend/cuda/sm90/kernels.h"
#include "base/error.h"
#include "weights/model_config.h"

namespace etalon::backend::cuda {

namespace {

static_assert(weights::kExpertsMax <= kExpertsMax);

constexpr std::size_t kWordBytes = sizeof(std::uint32_t);

std::size_t sz(std::int64_t n) noexcept {
    return static_cast<std::size_t>(n);
}

/// The only part of an E8 matrix without a bias; null for others.
const LinearPart* e8_part(const LinearWeights& base) {
    const auto& w = static_cast<const CudaLinear&>(base);
    const bool plain = w.parts.size() == 1 && w.bias.empty();
    return plain && w.parts.front().format == exact::Format::e8 ? &w.parts.front() : nullptr;
}

/// From so many tokens on an expert is no stream of weights without a matrix.
constexpr int kTogetherTokensMin = 17;

ExpertTable table_of(std::span<const std::unique_ptr<LinearWeights>> matrices, bool gate_up,
                     bool has_sm90, Loader& loader) {
    std::vector<E8Matrix> views;
    ExpertTable table;
    for (const auto& matrix : matrices) {
        const LinearPart* part = e8_part(*matrix);
        if (part == nullptr) return {};
        ETALON_ASSERT(table.n_rows == 0 || table.n_rows == part->n_rows);
        table.n_rows = part->n_rows;
        table.stride = round_up(matrix->n_cols, kRowAlignment);
        views.push_back({reinterpret_cast<const std::int8_t*>(part->data.data()), part->d.data()});
    }
    table.matrices = DeviceArray<E8Matrix>(views.size());
    loader.copy(table.matrices.data(), std::as_bytes(std::span(views)));
    constexpr int kTurn = 16;  // rows: eight of gate and the same of up
    if (!has_sm90 || (gate_up && table.n_rows % kTurn != 0)) return table;
    const auto maps = experts_maps_e8_sm90(views, table.n_rows, table.stride, gate_up);
    table.maps = DeviceArray<std::byte>(maps.size());
    table.gate_up = gate_up;
    loader.copy(table.maps.data(), maps);
    return table;
}

}  // namespace

CudaExperts::CudaExperts(ExpertMatrices its_matrices, int its_n_used, bool has_sm90, Loader& loader)
    : Experts(std::move(its_matrices), its_n_used),
      gate_up(table_of(matrices.gate_up, true, has_sm90, loader)),
      down(table_of(matrices.down, false, has_sm90, loader)) {
    const auto& w = static_cast<const CudaLinear&>(*matrices.router);
    ETALON_ASSERT(n_experts() <= kExpertsMax && w.parts.size() == 1 && w.bias.empty());
    const LinearPart& part = w.parts.front();
    router = {part.format, part.data.data(), part.n_rows, w.n_cols};
}

/// Five words a pair and one byte, two an expert.
std::size_t RoutingRoom::words_of(int n_tokens, const Experts& experts) {
    const std::size_t n_pairs = sz(n_tokens) * sz(experts.n_used);
    return 4 * n_pairs + (n_pairs + kWordBytes - 1) / kWordBytes + 2 * sz(experts.n_experts()) + 1;
}

bool RoutingRoom::holds(int n_tokens, const Experts& experts) const noexcept {
    return words_of(n_tokens, experts) <= words_.size();
}

void RoutingRoom::reserve(int n_tokens, const Experts& experts) {
    words_.reserve(words_of(n_tokens, experts));
}

RoutingView RoutingRoom::view(int n_tokens, const Experts& experts) const {
    ETALON_ASSERT(holds(n_tokens, experts));
    const std::size_t n_pairs = sz(n_tokens) * sz(experts.n_used);
    const std::size_t n_experts = sz(experts.n_experts());
    auto* words = reinterpret_cast<std::int32_t*>(words_.data());
    RoutingView view;
    const auto take = [&](std::size_t n) {
        std::int32_t* taken = words;
        words += n;
        return taken;
    };
    view.expert_of = take(n_pairs);
    view.weight_of = reinterpret_cast<float*>(take(n_pairs));
    view.pair_of = take(n_pairs);
    view.token_of = take(n_pairs);
    view.begin = take(n_experts + 1);
    view.active = take(n_experts);
    view.failed = reinterpret_cast<std::uint8_t*>(words);
    view.n_ended = n_ended_.data();
    view.n_experts = experts.n_experts();
    view.n_used = experts.n_used;
    return view;
}

bool takes_together(const ExpertTable& table, int n_tokens) {
    return !table.maps.empty() && n_tokens >= kTogetherTokensMin;
}

void run_experts_together(const ExpertTable& table, const ActivationsView& x,
                          const RoutingView& routing, int n_pairs, float* y, const Device& device) {
    const int n_outputs = table.gate_up ? table.n_rows / 2 : table.n_rows;
    const LinearOut out{y, sz(n_outputs), nullptr, nullptr, n_pairs, false};
    launch_experts_e8_sm90(table.groups(routing, routing.n_experts), table.maps.data(),
                           table.gate_up, x, out, device.n_multiprocessors(), device.stream());
}

bool run_experts(const ExpertTable& table, std::span<const std::unique_ptr<LinearWeights>> matrices,
                 const CudaActivations& x, const RoutingView& routing, const std::int32_t* token_of,
                 int n_tokens, float* y, const Device& device) {
    if (!table.matrices.empty() && n_tokens <= kStreamTokensMax) {
        const E8Groups groups =
            table.groups(routing, std::min(routing.n_experts, n_tokens * routing.n_used));
        const LinearOut out{y, sz(table.n_rows), nullptr, token_of, n_tokens, false};
        const auto launch =
            n_tokens <= kDecodeTokensMax ? launch_experts_e8_decode : launch_experts_e8_stream;
        launch(groups, x.view(), out, device.stream());
        return true;
    }
    // The host does not know which experts have pairs: a launch for each, and for E4 above
    // kE4StreamTokensMax tokens its rows made anew, whether it has some or none.
    for (std::size_t e = 0; e < matrices.size(); ++e) {
        run_linear(static_cast<const CudaLinear&>(*matrices[e]), x.view(), x.forms, token_of,
                   n_tokens, Store::replace, y, device, routing.begin + e);
    }
    return false;
}

}  // namespace etalon::backend::cuda

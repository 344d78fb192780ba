// SPDX-License-Identifier: Apache-2.0
// Cards by the names that people give them; in builds without nvcc too.
#include <algorithm>
#include <charconv>

#include "backend/cuda/cuda.h"

namespace etalon::backend {

std::optional<int> cuda_number(std::string_view name) {
    constexpr std::string_view kCuda = "cuda";
    if (name == kCuda) return 0;
    if (name.substr(0, kCuda.size() + 1) != "cuda:") return std::nullopt;
    name.remove_prefix(kCuda.size() + 1);
    int number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end != name.data() + name.size() || number < 0) return std::nullopt;
    return number;
}

std::optional<int> first_usable_card() {
    const CudaState state = cuda_state();
    const auto usable = std::find_if(state.devices.begin(), state.devices.end(),
                                     [](const auto& device) { return device.problem.empty(); });
    if (usable == state.devices.end()) return std::nullopt;
    return usable->index;
}

}  // namespace etalon::backend

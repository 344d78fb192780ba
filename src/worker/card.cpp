// SPDX-License-Identifier: Apache-2.0
// The choice of a card before the sandbox closes.
#include "worker/card.h"

#include <cstdlib>
#include <optional>

#include "backend/cuda/cuda.h"

namespace etalon::worker {

std::unique_ptr<backend::Backend> open_card(const std::string& name) {
    ::setenv("CUDA_MODULE_LOADING", "EAGER", 1);
    std::optional<int> card = backend::cuda_number(name);
    // A forced instruction set is a path of the processor.
    if (name == "auto" && std::getenv("ETALON_ISA") == nullptr) {
        card = backend::first_usable_card();
    }
    return card ? backend::make_cuda_backend(*card) : nullptr;
}

}  // namespace etalon::worker

// SPDX-License-Identifier: Apache-2.0
// NVIDIA cards: which there are, the backend on one of them, and what a card can do at most.
//   for (const CudaDevice& device : cuda_state().devices) print(device.name);
//   std::unique_ptr<Backend> backend = make_cuda_backend(0);
// A build without nvcc has these functions too and finds no card.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "backend/operations.h"

namespace etalon::backend {

struct CudaDevice {
    int index = 0;
    std::string name;
    int major = 0;  ///< compute capability, 9.0 for an H100
    int minor = 0;
    std::uint64_t memory_bytes = 0;
    std::string problem;  ///< why it cannot be used; empty when it can
};

struct CudaState {
    std::vector<CudaDevice> devices;
    std::string problem;  ///< why there are none: "built without nvcc", "no driver", ...
};

/// Asks the driver anew at each call.
CudaState cuda_state();

/// Which kernels: the best for the card; the same without a trial on the model first; or those that
/// every card runs. The last two are for tests.
enum class CudaKernels : std::uint8_t { best, untried, sm80 };

/// The backend on card `index`. Errors: unavailable (no such card, or it cannot be used).
std::unique_ptr<Backend> make_cuda_backend(int index, CudaKernels kernels = CudaKernels::best);

/// The number of "cuda:N"; 0 of "cuda"; nullopt of anything else.
std::optional<int> cuda_number(std::string_view name);
/// What "auto" means: the first card that can be used. Asks the driver.
std::optional<int> first_usable_card();

/// Bytes a second that card `index` reads from its memory; nullopt without one.
std::optional<double> cuda_read_speed(int index);
/// int8 multiplications and additions a second on the tensor cores of card `index`; nullopt
/// without one.
std::optional<double> cuda_integer_peak(int index);

}  // namespace etalon::backend

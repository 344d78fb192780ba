// SPDX-License-Identifier: Apache-2.0
// Tokens of a pass that the pass before has drawn: they go into its batch on the card, so that the
// host need not know them when it starts the pass.
#include <cuda_runtime.h>

#include "backend/cuda/common/launch.cuh"
#include "backend/cuda/ptx/dependent_launch.cuh"
#include "backend/cuda/sm80/kernels.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

constexpr int kThreads = 256;

/// tokens[t] = drawn[-1 - tokens[t]] where tokens[t] < 0. Where no token was drawn, token 0 and
/// failed[t] = 1. The kernel behind starts when all of it is there: those of a pass read positions
/// and pages before they wait.
///   in:  tokens int32 [n]; drawn int32, maybe in memory of the host
///   out: tokens, failed uint8 [n]
///   tile: a token a thread
///   floor: one read of the host's memory
///   supported: any n
__global__ void __launch_bounds__(kThreads)
    drawn_tokens_sm80(const std::int32_t* drawn, int vocab_size, std::int32_t* tokens,
                      std::uint8_t* failed, int n) {
    wait_for_kernels_before();
    const int t = static_cast<int>(blockIdx.x) * kThreads + static_cast<int>(threadIdx.x);
    if (t >= n || tokens[t] >= 0) return;
    const std::int32_t id = drawn[-1 - tokens[t]];
    const bool is_token = id >= 0 && id < vocab_size;
    tokens[t] = is_token ? id : 0;
    if (!is_token) failed[t] = 1;
}

}  // namespace

void launch_drawn_tokens(const std::int32_t* drawn, int vocab_size, std::int32_t* tokens,
                         std::uint8_t* failed, int n, Stream stream) {
    ETALON_ASSERT(drawn != nullptr && vocab_size >= 1 && n >= 1);
    launch_dependent("drawn_tokens", drawn_tokens_sm80,
                     dim3(static_cast<unsigned>((n + kThreads - 1) / kThreads)), kThreads, 0,
                     stream, drawn, vocab_size, tokens, failed, n);
}

}  // namespace etalon::backend::cuda

// SPDX-License-Identifier: Apache-2.0
// Linear layers of the CUDA backend: weights to the card, and the choice of a kernel.
#pragma once

#include <memory>
#include <span>

#include "backend/cuda/buffers.h"
#include "backend/cuda/device.h"
#include "backend/cuda/loader.h"

namespace etalon::backend::cuda {

/// Bytes of the card that a tensor takes as a part of a matrix.
std::uint64_t linear_bytes(const weights::Tensor& tensor);

/// Bytes of the room of the card in which it becomes E8 for many tokens.
std::uint64_t linear_room_bytes(const weights::Tensor& tensor);

std::unique_ptr<CudaLinear> load_linear(std::span<const weights::Tensor* const> parts,
                                        std::span<const float> bias, Loader& loader,
                                        Device& device);

/// The frozen table (FMT-17) as kernels read it.
const E4Table& e4_table();

/// y[i, row] for the tokens token_of[i], or for the first n_tokens when it is null. `forms` are
/// those that x has; `group` as in LinearOut.
void run_linear(const CudaLinear& w, const ActivationsView& x, unsigned forms,
                const std::int32_t* token_of, int n_tokens, Store store, float* y,
                const Device& device, const std::int32_t* group = nullptr);

/// Whether the products of so many tokens with w are faster with an input of these forms that is
/// `across` (ActivationsView): E4 on sm_90. run_linear() then takes it as it is.
bool wants_across(const CudaLinear& w, unsigned forms, int n_tokens, const Device& device);
/// The same for run_gate_up().
bool gate_up_wants_across(const CudaLinear& w, unsigned forms, int n_tokens, const Device& device);

/// Whether run_gate_up() takes gate and up, stacked, with so many tokens of an input of these
/// forms, which will be `across` or not, on sm_90: both E8, or both E4 and the input across or the
/// tokens many.
bool can_gate_up_together(const CudaLinear& w, unsigned forms, bool across, int n_tokens,
                          const Device& device);
/// s[T, w.n_rows / 2] = swiglu of the products of the first n_tokens tokens with gate and up.
void run_gate_up(const CudaLinear& w, const ActivationsView& x, int n_tokens, float* s,
                 const Device& device);

/// Records of width 1 and rows as they are: what embed.cu reads.
std::unique_ptr<CudaEmbedding> load_embedding(const weights::Tensor& tensor, Loader& loader);
std::uint64_t embedding_bytes(const weights::Tensor& tensor);

}  // namespace etalon::backend::cuda

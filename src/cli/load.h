// SPDX-License-Identifier: Apache-2.0
// What several commands make before they compute: backend, threads, tokenizer.
#pragma once

#include <memory>
#include <string>

#include "backend/operations.h"
#include "text/tokenizer.h"
#include "weights/model_file.h"

namespace etalon::cli {

/// Largest batch of a prompt: more tokens at once make no operation faster on a CPU.
inline constexpr int kBatchTokensMax = 512;

/// "cpu": the path of ETALON_ISA, else the best one; "exact": the reference.
std::unique_ptr<backend::Backend> make_backend(const std::string& name, int n_threads);

/// What --threads says; 0: one thread a processor.
int threads_or_all(int n_threads);

/// Errors: invalid (an inconsistent vocabulary); the message names the file.
text::Tokenizer load_tokenizer(const weights::ModelFile& file);

}  // namespace etalon::cli

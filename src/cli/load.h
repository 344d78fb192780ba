// SPDX-License-Identifier: Apache-2.0
// What several commands make before they compute: backend, threads, tokenizer.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend/operations.h"
#include "text/tokenizer.h"
#include "weights/model_file.h"

namespace CLI {
class App;
}

namespace etalon::cli {

/// Where a command computes.
struct DeviceOptions {
    std::string backend;          ///< "", "cpu" or "exact"
    std::string device = "auto";  ///< "auto", "cpu", "cuda" or "cuda:N"
    int threads = 0;              ///< 0: one a processor
};

/// Why this is no name of a device; empty: it is one.
std::string check_device_name(const std::string& name);

/// --threads and --device.
void add_device_options(CLI::App& command, DeviceOptions& options);
/// --backend, for commands that can also run the reference.
void add_backend_option(CLI::App& command, DeviceOptions& options);

/// The card that a command would use; nullopt: the processor. Errors: usage.
std::optional<int> chosen_cuda(const DeviceOptions& options);

/// The CPU takes the path of ETALON_ISA, else the best one. Errors: usage, unavailable (the card).
std::unique_ptr<backend::Backend> make_backend(const DeviceOptions& options);

/// Tokens of a prompt that the backend takes at once.
int batch_tokens_max(const backend::Backend& backend);

/// What --threads says; 0: one thread a processor.
int threads_or_all(int n_threads);

/// Token ids that differ from one another, to measure with; what they are changes no time.
std::vector<std::int32_t> some_tokens(int n_tokens, int vocab_size);

/// Errors: invalid (an inconsistent vocabulary); the message names the file.
text::Tokenizer load_tokenizer(const weights::ModelFile& file);

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// Models with random weights and the shape of known ones, for benchmarks: what they say is noise,
// what they cost is real.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::weights {

/// "mistral-7b", "llama-3.1-8b", ...
std::vector<std::string> synthetic_names();

/// Writes an E8 file of the shape `name` with `n_layers` layers (0: as many as the shape has). The
/// bytes depend on name and layers alone. Errors: usage (unknown name), failure (cannot write).
void write_synthetic_e8(std::string_view name, int n_layers,
                        const std::filesystem::path& destination);

}  // namespace etalon::weights

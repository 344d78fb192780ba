// SPDX-License-Identifier: Apache-2.0
// Models with random weights and the shape of known ones, for benchmarks: what they say is noise,
// what they cost is real.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "exact/formats.h"
#include "weights/model_file.h"

namespace etalon::weights {

/// "mistral-7b", "llama-3.1-8b", ...
std::vector<std::string> synthetic_names();

/// Writes an Etalon file of the shape `name` with `n_layers` layers (0: as many as the shape has)
/// in `format`, e8 or e4. The bytes depend on these three alone. Errors: usage (unknown name, more
/// layers than the shape has), failure (cannot write).
void write_synthetic(std::string_view name, exact::Format format, int n_layers,
                     const std::filesystem::path& destination);

/// The same shape without a file: every layer has the bytes that the first has in the file. For
/// backends that copy the weights, each to its own place. One that reads them in place, as a
/// processor does with e8 and e4, would find the one layer in its caches and look faster than it
/// is: it needs the file. `format` may also be a GGUF type whose models are common, q8_0 or q4_k:
/// of all matrices then, but that the head of a q4_k model is q6_k as usual. Errors: usage
/// (likewise; rows that are no whole blocks of the format).
ModelFile synthetic_in_memory(std::string_view name, exact::Format format, int n_layers);

}  // namespace etalon::weights

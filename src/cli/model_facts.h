// SPDX-License-Identifier: Apache-2.0
// What a model file says of itself, in the words of `show` and of bills of materials; and which
// files of this machine may be a model that is known by its hash alone.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "weights/model_file.h"

namespace etalon::cli {

/// "gguf", "safetensors", "etalon e8".
const char* kind_name(weights::FileKind kind);
std::uint64_t parameter_count(const weights::ModelFile& file);
/// "q4_1 211, f32 61": how many tensors each format has.
std::string formats_text(const weights::ModelFile& file);

/// Files and folders that may be models beside the default one, by name.
std::vector<std::filesystem::path> model_candidates();

}  // namespace etalon::cli

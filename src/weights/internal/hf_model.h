// SPDX-License-Identifier: Apache-2.0
// A model as Hugging Face stores it: config.json, tokenizer files, and tensors in one safetensors
// file or in several with an index.
//   const ShardIndex index = read_shard_index(text, path);
//   for every name in index.files: shards.push_back({name, parse_safetensors(map.bytes(), name)});
//   ModelContents model = read_hf_model(read_hf_texts(folder, path), shards, path);
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "weights/internal/contents.h"
#include "weights/internal/safetensors.h"

namespace etalon::weights {

/// What model.safetensors.index.json says.
struct ShardIndex {
    std::vector<std::string> files;              ///< names in the folder, ascending
    std::map<std::string, std::string> file_of;  ///< by the name of a tensor
};

/// A name of a file is refused when it could lead out of the folder. Errors: invalid.
ShardIndex read_shard_index(std::string_view text, const std::string& file);

struct Shard {
    std::string file;  ///< for messages
    SafetensorsFile content;
};

/// Every tensor is in the file that the index names, and nowhere else. `shards` are in the order of
/// `index.files`. Errors: invalid.
void check_shards(const ShardIndex& index, const std::vector<Shard>& shards,
                  const std::string& index_file);

/// The small files of a folder; "" for one that is absent.
struct HfTexts {
    std::string folder;  ///< for messages
    std::string config;
    std::string generation_config;
    std::string tokenizer_json;
    std::string tokenizer_model;
    std::string tokenizer_config;
    std::string chat_template;
};

/// Errors: invalid (no config.json beside the tensors in `file`, a text larger than its limit),
/// those of `check`.
HfTexts read_hf_texts(const std::filesystem::path& folder, const std::string& file,
                      const FileCheck& check = {});

/// The tensors point into the mapped shards. Errors: invalid.
ModelContents read_hf_model(const HfTexts& texts, const std::vector<Shard>& shards,
                            const std::string& file);

}  // namespace etalon::weights

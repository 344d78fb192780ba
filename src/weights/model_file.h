// SPDX-License-Identifier: Apache-2.0
// A model file of any kind (GGUF, a folder or file of safetensors, Etalon's own) seen alike: a
// configuration, a tokenizer, and tensors under the names of GGUF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "exact/formats.h"
#include "text/tokenizer_data.h"
#include "weights/model_config.h"

namespace etalon::weights {

struct ModelContents;

/// A tensor of one or two dimensions in a mapped file. Checked: the bytes lie inside the file and
/// are exactly what format and shape need.
struct Tensor {
    std::string name;  ///< GGUF's: "blk.3.attn_q.weight"
    exact::Format format = exact::Format::f32;
    std::int64_t n_rows = 1;               ///< output features; 1 for a vector
    std::int64_t n_cols = 0;               ///< K, input features
    std::span<const std::byte> data;       ///< rows in order; e8: tiles, e4: lines of codes
                                           ///< (layouts.md); the embedding's rows are in order
    std::span<const std::byte> scales;     ///< e8, e4: n_rows binary32 row scales, else empty
    std::span<const std::byte> indices{};  ///< e4: table indices (layouts.md), else empty

    std::uint64_t bytes() const noexcept { return data.size() + scales.size() + indices.size(); }
};

/// What the file is; decides how the transformer quantises (spec ROT-1).
enum class FileKind : std::uint8_t { gguf, safetensors, etalon_e8, etalon_e4 };

/// Whether this is a matrix of one expert: "blk.3.ffn_up.5.weight".
bool is_of_expert(std::string_view tensor_name) noexcept;

class ModelFile {
  public:
    /// Opens a .gguf file, a .safetensors file, a model.safetensors.index.json, or a folder that
    /// holds one of them with config.json beside it. Everything the loader needs later is checked
    /// here, finite scales included. `check` is asked about every file that is opened, before it is
    /// read (admission.h). Errors: not_found, invalid, those of `check`.
    static ModelFile open(const std::filesystem::path& path, const FileCheck& check = {});

    /// A model that is in no file, called `name` in messages; files() is empty. `storage` owns the
    /// bytes of its tensors, which may share them. The contents are taken as they are.
    static ModelFile in_memory(const std::string& name, ModelContents contents,
                               std::shared_ptr<const void> storage);

    ModelFile(ModelFile&&) noexcept;
    ModelFile& operator=(ModelFile&&) noexcept;
    ~ModelFile();

    FileKind kind() const noexcept;
    /// True when the linear weights are rotated on their input side (E8, E4): the transformer then
    /// rotates activations and quantises them per row.
    bool rotated() const noexcept {
        return kind() == FileKind::etalon_e8 || kind() == FileKind::etalon_e4;
    }
    const ModelConfig& config() const noexcept;
    const text::TokenizerData& tokenizer() const noexcept;
    const std::filesystem::path& path() const noexcept;

    const std::vector<Tensor>& tensors() const noexcept;
    bool has(std::string_view name) const noexcept;
    /// Errors: invalid (no such tensor, or another shape than n_rows x n_cols).
    const Tensor& tensor(std::string_view name, std::int64_t n_rows, std::int64_t n_cols) const;

    /// Metadata as text for `etalon show`: licence, source hashes, arithmetic version, file type.
    const std::map<std::string, std::string>& metadata() const noexcept;
    std::uint64_t weights_bytes() const noexcept;  ///< sum over tensors
    /// The mapped files behind the tensors (more than one for shards), to hash or to drop pages.
    const std::vector<MappedFile>& files() const noexcept;

  private:
    struct Impl;
    explicit ModelFile(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace etalon::weights

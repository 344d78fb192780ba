// SPDX-License-Identifier: Apache-2.0
// Opening a model file of any kind.
#include "weights/model_file.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/etalon_file.h"
#include "weights/internal/hf_model.h"
#include "weights/internal/limits.h"
#include "weights/internal/safetensors.h"

namespace etalon::weights {

namespace fs = std::filesystem;

struct ModelFile::Impl {
    fs::path path;
    std::vector<MappedFile> files;
    ModelContents contents;
    std::shared_ptr<const void> storage;  ///< of a model in memory
    std::unordered_map<std::string_view, const Tensor*> by_name;
};

namespace {

constexpr std::string_view kIndexName = "model.safetensors.index.json";
constexpr std::string_view kSingleName = "model.safetensors";

/// Everything that opening a model gathers.
struct Opened {
    std::vector<MappedFile> files;
    ModelContents contents;
};

bool is_gguf(std::span<const std::byte> bytes) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

fs::path folder_of(const fs::path& path) {
    return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

/// Tensors in several files, next to config.json.
Opened open_shards(const fs::path& index_path, const FileCheck& check) {
    const std::string name = index_path.string();
    const ShardIndex index = read_shard_index(read_file(index_path, kIndexBytesMax, check), name);
    const fs::path folder = folder_of(index_path);
    Opened out;
    std::vector<Shard> shards;
    for (const std::string& file : index.files) {
        const fs::path path = folder / file;
        std::error_code error;
        if (!fs::exists(path, error)) refuse(name, "file " + file, "is missing");
        out.files.emplace_back(path, check);
        shards.push_back(
            {path.string(), parse_safetensors(out.files.back().bytes(), path.string())});
    }
    check_shards(index, shards, name);
    out.contents = read_hf_model(read_hf_texts(folder, name, check), shards, name);
    return out;
}

Opened open_file(const fs::path& path, const FileCheck& check) {
    const std::string name = path.string();
    Opened out;
    out.files.emplace_back(path, check);
    const auto bytes = out.files.back().bytes();
    if (is_gguf(bytes)) {
        out.contents = read_gguf_model(bytes, name);
        return out;
    }
    if (!looks_like_safetensors(bytes)) refuse(name, "file", "is neither GGUF nor safetensors");
    SafetensorsFile safetensors = parse_safetensors(bytes, name);
    if (is_etalon_file(safetensors)) {
        out.contents = read_etalon_model(safetensors, name);
        return out;
    }
    std::vector<Shard> shards;
    shards.push_back({name, std::move(safetensors)});
    out.contents = read_hf_model(read_hf_texts(folder_of(path), name, check), shards, name);
    return out;
}

Opened open_path(const fs::path& path, const FileCheck& check) {
    std::error_code error;
    if (!fs::is_directory(path, error)) {
        return path.filename().string().ends_with(".index.json") ? open_shards(path, check)
                                                                 : open_file(path, check);
    }
    if (fs::exists(path / kIndexName, error)) return open_shards(path / kIndexName, check);
    if (fs::exists(path / kSingleName, error)) return open_file(path / kSingleName, check);
    refuse(path.string(), "folder", fmt::format("holds no {} and no {}", kSingleName, kIndexName));
}

}  // namespace

ModelFile::ModelFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ModelFile::ModelFile(ModelFile&&) noexcept = default;
ModelFile& ModelFile::operator=(ModelFile&&) noexcept = default;
ModelFile::~ModelFile() = default;

bool is_of_expert(std::string_view tensor_name) noexcept {
    return std::count(tensor_name.begin(), tensor_name.end(), '.') == 4;
}

ModelFile ModelFile::open(const fs::path& path, const FileCheck& check) {
    Opened opened = open_path(path, check);
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    impl->files = std::move(opened.files);
    impl->contents = std::move(opened.contents);
    check_finite(impl->contents.tensors, path.string(), [&] {
        for (const MappedFile& map : impl->files)
            map.drop(0, map.bytes().size());
    });
    for (const Tensor& tensor : impl->contents.tensors)
        impl->by_name.emplace(tensor.name, &tensor);
    return ModelFile(std::move(impl));
}

ModelFile ModelFile::in_memory(const std::string& name, ModelContents contents,
                               std::shared_ptr<const void> storage) {
    auto impl = std::make_unique<Impl>();
    impl->path = name;
    impl->contents = std::move(contents);
    impl->storage = std::move(storage);
    for (const Tensor& tensor : impl->contents.tensors)
        impl->by_name.emplace(tensor.name, &tensor);
    return ModelFile(std::move(impl));
}

FileKind ModelFile::kind() const noexcept {
    return impl_->contents.kind;
}

const ModelConfig& ModelFile::config() const noexcept {
    return impl_->contents.config;
}

const text::TokenizerData& ModelFile::tokenizer() const noexcept {
    return impl_->contents.tokenizer;
}

const fs::path& ModelFile::path() const noexcept {
    return impl_->path;
}

const std::vector<Tensor>& ModelFile::tensors() const noexcept {
    return impl_->contents.tensors;
}

bool ModelFile::has(std::string_view name) const noexcept {
    return impl_->by_name.count(name) != 0;
}

const Tensor& ModelFile::tensor(std::string_view name, std::int64_t n_rows,
                                std::int64_t n_cols) const {
    const std::string field = fmt::format("tensor {}", name);
    const auto found = impl_->by_name.find(name);
    if (found == impl_->by_name.end()) refuse(impl_->path.string(), field, "is missing");
    const Tensor& tensor = *found->second;
    if (tensor.n_rows != n_rows || tensor.n_cols != n_cols) {
        refuse(impl_->path.string(), field,
               fmt::format("is {} x {}, {} x {} is needed", tensor.n_rows, tensor.n_cols, n_rows,
                           n_cols));
    }
    return tensor;
}

const std::map<std::string, std::string>& ModelFile::metadata() const noexcept {
    return impl_->contents.metadata;
}

std::uint64_t ModelFile::weights_bytes() const noexcept {
    std::uint64_t sum = 0;
    for (const Tensor& tensor : impl_->contents.tensors)
        sum += tensor.bytes();
    return sum;
}

const std::vector<MappedFile>& ModelFile::files() const noexcept {
    return impl_->files;
}

}  // namespace etalon::weights

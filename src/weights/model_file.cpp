// SPDX-License-Identifier: Apache-2.0
// Opening a model file of any kind.
#include "weights/model_file.h"

#include <cstring>
#include <fmt/format.h>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/e8_file.h"
#include "weights/internal/safetensors.h"

namespace etalon::weights {

namespace fs = std::filesystem;

struct ModelFile::Impl {
    fs::path path;
    std::vector<MappedFile> files;
    ModelContents contents;
    std::unordered_map<std::string_view, const Tensor*> by_name;
};

namespace {

bool is_gguf(std::span<const std::byte> bytes) {
    return bytes.size() >= 4 && std::memcmp(bytes.data(), "GGUF", 4) == 0;
}

}  // namespace

ModelFile::ModelFile(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ModelFile::ModelFile(ModelFile&&) noexcept = default;
ModelFile& ModelFile::operator=(ModelFile&&) noexcept = default;
ModelFile::~ModelFile() = default;

ModelFile ModelFile::open(const fs::path& path) {
    auto impl = std::make_unique<Impl>();
    impl->path = path;
    const std::string name = path.string();
    impl->files.emplace_back(path);
    const auto bytes = impl->files.back().bytes();
    if (is_gguf(bytes)) {
        impl->contents = read_gguf_model(bytes, name);
    } else if (looks_like_safetensors(bytes)) {
        const SafetensorsFile safetensors = parse_safetensors(bytes, name);
        if (!is_e8_file(safetensors)) refuse(name, "file", "is no Etalon E8 file");
        impl->contents = read_e8_model(safetensors, name);
    } else {
        refuse(name, "file", "is neither GGUF nor safetensors");
    }
    check_finite(impl->contents.tensors, name);
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
        sum += tensor.data.size() + tensor.scales.size();
    return sum;
}

const std::vector<MappedFile>& ModelFile::files() const noexcept {
    return impl_->files;
}

}  // namespace etalon::weights

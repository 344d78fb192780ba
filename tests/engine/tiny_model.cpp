// SPDX-License-Identifier: Apache-2.0
// Writes the tiny model. Its weights are large enough that logits spread over some units and every
// layer moves them.
#include "engine/tiny_model.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <unistd.h>
#include <vector>

#include "backend/cuda/cuda.h"
#include "text/internal/vocabulary.h"
#include "weights/internal/contents.h"
#include "weights/internal/etalon_file.h"

namespace etalon::engine {

namespace {

constexpr int kBatchTokens = 256;
constexpr double kInt8Deviation = 73.3;  // of int8 that are spread evenly over [-127, 127]

weights::ModelConfig tiny_config() {
    weights::ModelConfig config;
    config.name = "tiny";
    config.dim = 64;
    config.n_layers = 2;
    config.n_heads = 2;
    config.n_kv_heads = 1;
    config.head_dim = 32;
    config.hidden_dim = 64;
    config.vocab_size = kTinyVocab;
    config.context_length = kTinyContext;
    config.rope.n_dims = config.head_dim;
    config.rope.base = 10000.0F;
    return config;
}

/// Deviation of a row's weights, as the row sees its rotated input.
double deviation(const weights::TensorShape& tensor) {
    if (tensor.name == weights::kEmbeddingName) return 0.5;
    const double width = std::sqrt(static_cast<double>(tensor.n_cols));
    const bool rotated = tensor.name.find("attn_output") == std::string::npos;
    const double spread = tensor.name == "output.weight" ? 3.0 : 1.0;
    return spread / width / (rotated ? width : 1.0);  // rotation of 64: the norm grows by 8
}

void write_matrix(const weights::TensorShape& tensor, std::mt19937& random,
                  weights::EtalonWriter& writer) {
    const bool tiled = tensor.name != weights::kEmbeddingName;
    std::vector<std::byte> bytes(tiled ? weights::tile_bytes(tensor.n_rows, tensor.n_cols)
                                       : static_cast<std::size_t>(tensor.n_rows * tensor.n_cols));
    for (std::byte& byte : bytes)
        byte = static_cast<std::byte>(static_cast<std::int8_t>(random() % 255) - 127);
    const auto scale = static_cast<float>(deviation(tensor) / kInt8Deviation);
    std::vector<float> scales(static_cast<std::size_t>(tensor.n_rows), scale);
    if (!tiled) scales[kTinyPoison] = 3e38F;
    writer.add_rows(bytes, scales);
}

weights::ModelFile open_tiny() {
    const auto path = std::filesystem::temp_directory_path() /
                      ("etalon-tiny-" + std::to_string(::getpid()) + ".safetensors");
    std::filesystem::remove(path);
    write_tiny(path, tiny_tokenizer_data());
    weights::ModelFile file = weights::ModelFile::open(path);
    std::filesystem::remove(path);  // stays mapped
    return file;
}

}  // namespace

text::TokenizerData tiny_tokenizer_data() {
    text::TokenizerData data;
    const auto add = [&](const std::string& token, text::TokenType type) {
        data.tokens.push_back(token);
        data.types.push_back(type);
    };
    add("<|end|>", text::TokenType::control);
    for (const std::string& letter : text::byte_alphabet())
        add(letter, text::TokenType::normal);
    for (const char* token : {"ab", "abc", "END", "STOP", "\n\n", "é€"})
        add(token, text::TokenType::user_defined);
    while (data.tokens.size() < kTinyVocab)
        add("<" + std::to_string(data.tokens.size()) + ">", text::TokenType::unused);
    data.eos = kTinyEnd;
    return data;
}

void write_tiny(const std::filesystem::path& path, const text::TokenizerData& tokenizer) {
    const weights::ModelConfig config = tiny_config();
    std::vector<weights::TensorShape> matrices;
    std::vector<weights::EtalonWriter::Vector> vectors;
    for (const weights::TensorShape& tensor : weights::model_tensors(config)) {
        if (!tensor.is_vector) matrices.push_back(tensor);
        if (tensor.is_vector && !tensor.is_optional)
            vectors.push_back({tensor.name, tensor.n_cols});
    }
    std::stable_partition(matrices.begin(), matrices.end(), [](const auto& tensor) {
        return tensor.name != weights::kEmbeddingName;
    });
    std::vector<weights::EtalonWriter::Matrix> headers;
    for (const weights::TensorShape& tensor : matrices) {
        headers.push_back(
            {tensor.name, tensor.n_rows, tensor.n_cols, tensor.name != weights::kEmbeddingName});
    }
    weights::EtalonWriter writer(path, config, tokenizer, {{"source", "a generator"}}, headers,
                                 vectors);
    std::mt19937 random(20240229);
    for (const weights::TensorShape& tensor : matrices)
        write_matrix(tensor, random, writer);
    for (const weights::EtalonWriter::Vector& vector : vectors)
        writer.add_vector(std::vector<float>(static_cast<std::size_t>(vector.size), 1.0F));
    (void)writer.finish();
}

TinyModel::TinyModel(std::unique_ptr<backend::Backend> its_device)
    : device(std::move(its_device)), transformer(tiny_file(), *device, kBatchTokens) {}

const weights::ModelFile& tiny_file() {
    static const weights::ModelFile file = open_tiny();
    return file;
}

const text::Tokenizer& tiny_tokenizer() {
    static const text::Tokenizer tokenizer(tiny_file().tokenizer());
    return tokenizer;
}

TinyModel& tiny_model() {
    const auto make = [] {
        const char* card = std::getenv("ETALON_TEST_CARD");
        return card != nullptr ? backend::make_cuda_backend(*backend::cuda_number(card))
                               : backend::make_cpu_backend(backend::choose_isa(nullptr), 1);
    };
    static TinyModel model(make());
    return model;
}

TinyModel& tiny_reference() {
    static TinyModel model(backend::make_exact_backend(1));
    return model;
}

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// Writers of tiny model files.
#include "model/tiny_model.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <fmt/format.h>
#include <fstream>
#include <string_view>
#include <unistd.h>
#include <vector>

#include "backend/conformance.h"
#include "backend/tensors.h"
#include "base/error.h"
#include "weights/internal/contents.h"
#include "weights/internal/etalon_file.h"

namespace etalon::model::tiny {

namespace {

using backend::conformance::OwnedTensor;
using backend::conformance::Random;
using backend::conformance::Weights;
using exact::Format;
using weights::TensorShape;

constexpr std::uint64_t kSeed = 20240229;

text::TokenizerData tokenizer_of(int vocab_size) {
    text::TokenizerData data;
    for (int id = 0; id < vocab_size; ++id)
        data.tokens.push_back(fmt::format("<{}>", id));
    data.types.assign(data.tokens.size(), text::TokenType::unused);
    return data;
}

bool is_wanted(const TensorShape& shape, const Options& options) {
    if (shape.name == "output.weight") return options.own_head;
    if (!shape.is_optional) return true;
    for (const std::string& name : options.biased) {
        if (shape.name.find(name + ".bias") != std::string::npos) return true;
    }
    return false;
}

/// Norm weights near their value, biases near zero.
std::vector<float> vector_of(Random& random, const TensorShape& shape, const Options& options) {
    const bool norm = shape.name.find("norm") != std::string::npos;
    std::vector<float> values(static_cast<std::size_t>(shape.n_cols));
    for (float& value : values) {
        value = random.unit() * 0.25F;
        if (norm) value = (1.0F + value) * options.norm_weight;
    }
    return values;
}

/// The bytes of a GGUF file, version 3.
class GgufBytes {
  public:
    template <typename T>
    void number(T value) {
        std::array<char, sizeof(T)> bytes;
        std::memcpy(bytes.data(), &value, sizeof(T));
        out_.append(bytes.data(), bytes.size());
    }
    void text(std::string_view value) {
        number<std::uint64_t>(value.size());
        out_ += value;
    }
    void key(std::string_view name, std::uint32_t type) {
        text(name);
        number(type);
    }
    void integer(std::string_view name, int value) {
        key(name, 4);  // u32
        number(static_cast<std::uint32_t>(value));
        ++n_pairs;
    }
    void real(std::string_view name, float value) {
        key(name, 6);  // f32
        number(value);
        ++n_pairs;
    }
    void string(std::string_view name, std::string_view value) {
        key(name, 8);  // string
        text(value);
        ++n_pairs;
    }
    void strings(std::string_view name, const std::vector<std::string>& values) {
        key(name, 9);              // array
        number<std::uint32_t>(8);  // of strings
        number<std::uint64_t>(values.size());
        for (const std::string& value : values)
            text(value);
        ++n_pairs;
    }
    void bytes(std::span<const std::byte> data) {
        out_.append(reinterpret_cast<const char*>(data.data()), data.size());
    }
    void align() { out_.append((32 - out_.size() % 32) % 32, '\0'); }
    const std::string& get() const noexcept { return out_; }

    std::uint64_t n_pairs = 0;

  private:
    std::string out_;
};

void add_pairs(const weights::ModelConfig& config, GgufBytes& pairs) {
    pairs.string("general.architecture", "llama");
    pairs.string("general.name", "tiny");
    pairs.integer("llama.block_count", config.n_layers);
    pairs.integer("llama.context_length", config.context_length);
    pairs.integer("llama.embedding_length", config.dim);
    pairs.integer("llama.feed_forward_length", config.hidden_dim);
    pairs.integer("llama.attention.head_count", config.n_heads);
    pairs.integer("llama.attention.head_count_kv", config.n_kv_heads);
    pairs.integer("llama.attention.key_length", config.head_dim);
    pairs.integer("llama.attention.value_length", config.head_dim);
    pairs.integer("llama.attention.sliding_window", config.sliding_window);
    pairs.integer("llama.rope.dimension_count", config.rope.n_dims);
    pairs.real("llama.rope.freq_base", config.rope.base);
    pairs.real("llama.attention.layer_norm_rms_epsilon", config.norm_eps);
    pairs.string("tokenizer.ggml.model", "gpt2");
    pairs.string("tokenizer.ggml.pre", "smollm");
    pairs.strings("tokenizer.ggml.tokens", tokenizer_of(config.vocab_size).tokens);
    pairs.strings("tokenizer.ggml.merges", {});
}

std::uint32_t gguf_type(Format format) {
    constexpr std::array<std::uint32_t, 15> kTypes{0,  1,  30, 2,  3,  6,  7, 8,
                                                   10, 11, 12, 13, 14, 20, 23};
    return kTypes.at(static_cast<std::size_t>(format));
}

/// A tensor of the file: a matrix, or a vector in F32.
struct Entry {
    TensorShape shape;
    std::unique_ptr<OwnedTensor> matrix;
    std::vector<float> vector;

    std::span<const std::byte> data() const {
        return matrix ? matrix->tensor.data : std::as_bytes(std::span(vector));
    }
};

std::vector<Entry> gguf_entries(const weights::ModelConfig& config, const FormatOf& format_of,
                                const Options& options) {
    Random random(kSeed);
    std::vector<Entry> entries;
    for (const TensorShape& shape : weights::model_tensors(config)) {
        if (!is_wanted(shape, options)) continue;
        Entry& entry = entries.emplace_back(Entry{shape, nullptr, {}});
        if (shape.is_vector) {
            entry.vector = vector_of(random, shape, options);
        } else {
            entry.matrix = backend::conformance::random_matrix(
                random, format_of(shape.name), static_cast<int>(shape.n_rows),
                static_cast<int>(shape.n_cols), Weights::model);
        }
    }
    return entries;
}

void write_file(const std::filesystem::path& path, const std::string& bytes) {
    std::ofstream out(path, std::ios::binary);
    out << bytes;
    out.close();
    ETALON_ASSERT(out.good());
}

std::unique_ptr<TemporaryModel> opened(std::unique_ptr<TemporaryFile> on_disk) {
    auto model = weights::ModelFile::open(on_disk->path());
    return std::make_unique<TemporaryModel>(TemporaryModel{std::move(on_disk), std::move(model)});
}

/// Matrices of the layers are of `format`, e8 or e4.
std::unique_ptr<TemporaryModel> make_etalon(Format format, const weights::ModelConfig& config,
                                            const Options& options) {
    std::vector<weights::EtalonWriter::Matrix> matrices;
    std::vector<TensorShape> shapes = weights::model_tensors(config);
    std::erase_if(shapes, [&](const TensorShape& shape) { return !is_wanted(shape, options); });
    std::vector<weights::EtalonWriter::Vector> vectors;
    for (const TensorShape& shape : shapes) {
        if (shape.is_vector) {
            vectors.push_back({shape.name, shape.n_cols});
        } else if (shape.name != weights::kEmbeddingName) {
            matrices.push_back({shape.name, shape.n_rows, shape.n_cols, true,
                                shape.name.rfind("blk.", 0) == 0 ? format : Format::e8});
        }
    }
    std::stable_partition(matrices.begin(), matrices.end(),
                          [](const auto& matrix) { return matrix.format == Format::e8; });
    matrices.push_back(
        {std::string(weights::kEmbeddingName), config.vocab_size, config.dim, false});
    auto on_disk = std::make_unique<TemporaryFile>(".safetensors");
    Random random(kSeed);
    weights::EtalonWriter writer(on_disk->path(), config, tokenizer_of(config.vocab_size), {},
                                 matrices, vectors);
    for (const auto& matrix : matrices) {
        const auto make = matrix.tiled ? backend::conformance::random_matrix
                                       : backend::conformance::random_embedding;
        const auto tensor = make(random, matrix.format, static_cast<int>(matrix.n_rows),
                                 static_cast<int>(matrix.n_cols), Weights::model);
        writer.add_rows(tensor->data, tensor->scales, tensor->indices);
    }
    for (const TensorShape& shape : shapes) {
        if (shape.is_vector) writer.add_vector(vector_of(random, shape, options));
    }
    (void)writer.finish();
    return opened(std::move(on_disk));
}

}  // namespace

weights::ModelConfig config() {
    weights::ModelConfig config;
    config.name = "tiny";
    config.dim = 256;
    config.n_layers = 2;
    config.n_heads = 16;
    config.n_kv_heads = 4;
    config.head_dim = 48;
    config.hidden_dim = 512;
    config.vocab_size = 200;
    config.context_length = 300;
    config.rope.n_dims = config.head_dim;
    return config;
}

TemporaryFile::TemporaryFile(const std::string& suffix) {
    static std::atomic<int> count{0};
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("etalon-tiny-{}-{}{}", getpid(), count++, suffix);
}

TemporaryFile::~TemporaryFile() {
    std::error_code ignored;  // a file that stays behind harms nobody
    std::filesystem::remove(path_, ignored);
}

std::unique_ptr<TemporaryModel> make_e8(const weights::ModelConfig& config,
                                        const Options& options) {
    return make_etalon(Format::e8, config, options);
}

std::unique_ptr<TemporaryModel> make_e4(const weights::ModelConfig& config,
                                        const Options& options) {
    return make_etalon(Format::e4, config, options);
}

std::unique_ptr<TemporaryModel> make_gguf(const weights::ModelConfig& config,
                                          const FormatOf& format_of, const Options& options) {
    const std::vector<Entry> entries = gguf_entries(config, format_of, options);
    GgufBytes pairs;
    add_pairs(config, pairs);
    GgufBytes file;
    file.number<std::uint32_t>(0x46554747);  // "GGUF"
    file.number<std::uint32_t>(3);
    file.number<std::uint64_t>(entries.size());
    file.number<std::uint64_t>(pairs.n_pairs);
    file.bytes(std::as_bytes(std::span(pairs.get())));
    GgufBytes data;
    for (const Entry& entry : entries) {
        file.text(entry.shape.name);
        file.number<std::uint32_t>(entry.shape.is_vector ? 1 : 2);
        file.number(static_cast<std::uint64_t>(entry.shape.n_cols));
        if (!entry.shape.is_vector) file.number(static_cast<std::uint64_t>(entry.shape.n_rows));
        file.number(entry.matrix ? gguf_type(entry.matrix->tensor.format) : gguf_type(Format::f32));
        file.number<std::uint64_t>(data.get().size());
        data.bytes(entry.data());
        data.align();
    }
    file.align();
    file.bytes(std::as_bytes(std::span(data.get())));
    auto on_disk = std::make_unique<TemporaryFile>(".gguf");
    write_file(on_disk->path(), file.get());
    return opened(std::move(on_disk));
}

}  // namespace etalon::model::tiny

// SPDX-License-Identifier: Apache-2.0
// Models with random weights and the shape of known ones.
#include "weights/synthetic.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <map>
#include <span>

#include "base/error.h"
#include "exact/rotate.h"
#include "text/tokenizer_data.h"
#include "weights/internal/e8_file.h"
#include "weights/model_config.h"

namespace etalon::weights {

namespace {

struct Shape {
    std::string_view name;
    int dim;
    int n_layers;
    int n_heads;
    int n_kv_heads;
    int head_dim;
    int hidden_dim;
    int vocab_size;
    int context_length;
    float rope_base;
    int n_experts = 0;
    int n_experts_used = 0;
};

constexpr std::array<Shape, 7> kShapes{{
    {"smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5F},
    {"llama-3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, 131072, 5e5F},
    {"mistral-7b", 4096, 32, 32, 8, 128, 14336, 32768, 32768, 1e6F},
    {"llama-3.1-8b", 4096, 32, 32, 8, 128, 14336, 128256, 131072, 5e5F},
    {"mistral-nemo-12b", 5120, 40, 32, 8, 128, 14336, 131072, 131072, 1e6F},
    {"mistral-small-24b", 5120, 40, 32, 8, 128, 32768, 131072, 32768, 1e8F},
    {"mixtral-8x7b", 4096, 32, 32, 8, 128, 14336, 32000, 32768, 1e6F, 8, 2},
}};

// Standard deviation of the weights of a layer before rotation, as models have it.
constexpr double kWeightDeviation = 0.02;
// Root mean square of int8 that are spread evenly over [-127, 127].
constexpr double kInt8Deviation = 73.3;

/// Xorshift: eight bytes a step, far faster than a disk.
class Generator {
  public:
    explicit Generator(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) {}

    /// int8 in [-127, 127]; -128 is no weight (LIN-2) and becomes 0.
    void fill(std::span<std::byte> out) {
        for (std::size_t i = 0; i < out.size(); i += sizeof(state_)) {
            state_ ^= state_ << 13;
            state_ ^= state_ >> 7;
            state_ ^= state_ << 17;
            std::memcpy(out.data() + i, &state_, std::min(sizeof(state_), out.size() - i));
        }
        std::replace(out.begin(), out.end(), std::byte{0x80}, std::byte{0});
    }

  private:
    std::uint64_t state_;
};

ModelConfig config_of(std::string_view name, int n_layers) {
    const auto* shape = std::find_if(kShapes.begin(), kShapes.end(),
                                     [&](const Shape& s) { return s.name == name; });
    if (shape == kShapes.end()) {
        throw Error(ExitCode::usage, fmt::format("no shape is called {}", printable(name)));
    }
    ModelConfig config;
    config.n_layers = n_layers == 0 ? shape->n_layers : n_layers;
    config.name = fmt::format("{} shape, {} layers, random weights", name, config.n_layers);
    config.dim = shape->dim;
    config.n_heads = shape->n_heads;
    config.n_kv_heads = shape->n_kv_heads;
    config.head_dim = shape->head_dim;
    config.hidden_dim = shape->hidden_dim;
    config.n_experts = shape->n_experts;
    config.n_experts_used = shape->n_experts_used;
    config.vocab_size = shape->vocab_size;
    config.context_length = shape->context_length;
    config.rope.n_dims = shape->head_dim;
    config.rope.base = shape->rope_base;
    return config;
}

/// Byte-level BPE whose letters are ASCII and whose other tokens no text gives: a benchmark reads
/// token ids, not text.
text::TokenizerData tokenizer_of(const ModelConfig& config) {
    text::TokenizerData data;
    for (int id = 0; id < config.vocab_size; ++id)
        data.tokens.push_back(fmt::format("<{}>", id));
    data.types.assign(data.tokens.size(), text::TokenType::unused);
    return data;
}

// Tiles are made in pieces of about this size.
constexpr std::int64_t kPieceBytes = 4 << 20;

/// Row scales that keep activations of the size that real weights give them.
float row_scale(const TensorShape& tensor) {
    const bool rotated_input =
        tensor.name.find("attn_output") == std::string::npos && tensor.name != kEmbeddingName;
    const int block =
        rotated_input ? exact::rotation_for(static_cast<int>(tensor.n_cols)).block : 1;
    return static_cast<float>(kWeightDeviation / kInt8Deviation /
                              std::sqrt(static_cast<double>(block)));
}

void write_matrix(const TensorShape& tensor, std::uint64_t seed, E8Writer& writer) {
    Generator generator(seed);
    const std::int64_t step =
        std::max<std::int64_t>(kPieceBytes / tensor.n_cols / kTileRows, 1) * kTileRows;
    std::vector<std::byte> tiles;
    for (std::int64_t row = 0; row < tensor.n_rows; row += step) {
        const std::int64_t n_rows = std::min(step, tensor.n_rows - row);
        const bool tiled = tensor.name != kEmbeddingName;
        tiles.resize(tiled ? tile_bytes(n_rows, tensor.n_cols)
                           : static_cast<std::size_t>(n_rows * tensor.n_cols));
        generator.fill(tiles);
        const std::vector<float> scales(static_cast<std::size_t>(n_rows), row_scale(tensor));
        writer.add_rows(tiles, scales);
    }
}

/// Ones; routers random, so that tokens use different experts.
std::vector<float> vector_of(const E8Writer::Vector& vector, std::uint64_t seed) {
    std::vector<float> values(static_cast<std::size_t>(vector.n_rows * vector.size), 1.0F);
    if (!is_router_name(vector.name)) return values;
    std::vector<std::byte> codes(values.size());
    Generator(seed).fill(codes);
    std::transform(codes.begin(), codes.end(), values.begin(), [](std::byte code) {
        return static_cast<float>(static_cast<std::int8_t>(code) * kWeightDeviation /
                                  kInt8Deviation);
    });
    return values;
}

}  // namespace

std::vector<std::string> synthetic_names() {
    std::vector<std::string> names;
    for (const Shape& shape : kShapes)
        names.emplace_back(shape.name);
    return names;
}

void write_synthetic_e8(std::string_view name, int n_layers,
                        const std::filesystem::path& destination) {
    const ModelConfig config = config_of(name, n_layers);
    std::vector<TensorShape> matrices;
    std::vector<E8Writer::Matrix> matrix_headers;
    std::vector<E8Writer::Vector> vectors;
    for (const TensorShape& tensor : model_tensors(config)) {
        if (tensor.is_vector && tensor.is_optional) continue;  // no biases
        if (tensor.is_vector || tensor.is_router) {
            vectors.push_back({tensor.name, tensor.n_cols, tensor.n_rows});
        } else {
            matrices.push_back(tensor);
        }
    }
    std::stable_partition(matrices.begin(), matrices.end(),
                          [](const TensorShape& tensor) { return tensor.name != kEmbeddingName; });
    for (const TensorShape& tensor : matrices) {
        matrix_headers.push_back(
            {tensor.name, tensor.n_rows, tensor.n_cols, tensor.name != kEmbeddingName});
    }
    E8Writer writer(destination, config, tokenizer_of(config),
                    {{"source", "random weights of a generator"}}, matrix_headers, vectors);
    for (std::size_t i = 0; i < matrices.size(); ++i)
        write_matrix(matrices[i], i, writer);
    for (std::size_t i = 0; i < vectors.size(); ++i)
        writer.add_vector(vector_of(vectors[i], matrices.size() + i));
    (void)writer.finish();
}

}  // namespace etalon::weights

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
#include "weights/internal/etalon_file.h"
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

constexpr std::array<Shape, 8> kShapes{{
    {"smollm2-135m", 576, 30, 9, 3, 64, 1536, 49152, 8192, 1e5F},
    {"llama-3.2-1b", 2048, 16, 32, 8, 64, 8192, 128256, 131072, 5e5F},
    {"mistral-7b", 4096, 32, 32, 8, 128, 14336, 32768, 32768, 1e6F},
    {"llama-3.1-8b", 4096, 32, 32, 8, 128, 14336, 128256, 131072, 5e5F},
    {"nemo-12b", 5120, 40, 32, 8, 128, 14336, 131072, 131072, 1e6F},
    {"mistral-small-24b", 5120, 40, 32, 8, 128, 32768, 131072, 32768, 1e8F},
    {"mistral-large-2", 12288, 88, 96, 8, 128, 28672, 32768, 131072, 1e6F},
    {"mixtral-8x7b", 4096, 32, 32, 8, 128, 14336, 32000, 32768, 1e6F, 8, 2},
}};

// Standard deviation of the weights of a layer before rotation, as models have it.
constexpr double kWeightDeviation = 0.02;
// Root mean square of int8 that are spread evenly over [-127, 127].
constexpr double kInt8Deviation = 73.3;
// And of the codes of an imported row of 4,096 to 14,336 weights: rotated they are normal, and the
// largest of so many, which is 127, is 3.65 to 3.95 deviations.
constexpr double kE8Deviation = 33.5;

/// Root mean square of E4 weights whose codes and indices are spread evenly.
double e4_deviation() {
    double sum = 0.0;
    for (const auto& row : exact::kE4Table) {
        for (const std::int8_t q : row)
            sum += static_cast<double>(q) * q;
    }
    return std::sqrt(sum / 256);
}

/// Normal int8 of kE8Deviation, as quantiles: one of them for every 16 bits.
struct NormalCodes {
    std::array<std::byte, 1 << 16> of;

    NormalCodes() {
        int code = -127;
        for (std::size_t i = 0; i < of.size(); ++i) {
            const double quantile = (static_cast<double>(i) + 0.5) / static_cast<double>(of.size());
            while (code < 127 && quantile > distribution(code + 0.5))
                ++code;
            of[i] = static_cast<std::byte>(code);
        }
    }
    static double distribution(double x) {
        return std::erfc(-x / (kE8Deviation * std::sqrt(2.0))) / 2;
    }
};

/// Xorshift: eight bytes a step, far faster than a disk.
class Generator {
  public:
    explicit Generator(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 1) {}

    void fill(std::span<std::byte> out) {
        for (std::size_t i = 0; i < out.size(); i += sizeof(state_)) {
            state_ ^= state_ << 13;
            state_ ^= state_ >> 7;
            state_ ^= state_ << 17;
            std::memcpy(out.data() + i, &state_, std::min(sizeof(state_), out.size() - i));
        }
    }

    /// Codes as an import makes them; how often bits of weights change decides on the power that a
    /// processor takes for their products, and on the clock that it keeps.
    void fill_e8(std::span<std::byte> out) {
        static const NormalCodes codes;
        std::array<std::uint16_t, 1024> draws;
        for (std::size_t i = 0; i < out.size(); i += draws.size()) {
            fill(std::as_writable_bytes(std::span(draws)));
            const std::size_t n = std::min(draws.size(), out.size() - i);
            for (std::size_t j = 0; j < n; ++j)
                out[i + j] = codes.of[draws[j]];
        }
    }

  private:
    std::uint64_t state_;
};

/// The binary16 number nearest to a positive value that is in its range.
std::uint16_t nearest_f16(double value) {
    std::uint16_t bits = 1;
    while (exact::float_from_f16(bits) < value)
        ++bits;
    const auto below = static_cast<std::uint16_t>(bits - 1);
    return value - exact::float_from_f16(below) < exact::float_from_f16(bits) - value ? below
                                                                                      : bits;
}

/// A binary16 number at a place of each block of a GGUF type.
struct BlockNumber {
    std::size_t offset;
    double value;
};

/// With these, blocks whose other bytes are spread evenly have weights of kWeightDeviation and,
/// but for q8_0, whose codes have -1/2, a mean of 0. The codes of q4_k are in [0, 15], its 6-bit
/// scales and minima in [0, 63]; those of q6_k in [-32, 31], its scales in [-128, 127].
std::vector<BlockNumber> block_numbers(exact::Format format) {
    if (format == exact::Format::q8_0) return {{0, kWeightDeviation / kInt8Deviation}};
    if (format == exact::Format::q6_k) return {{208, kWeightDeviation / 1366}};
    ETALON_ASSERT(format == exact::Format::q4_k);
    const double d = kWeightDeviation / 258;
    return {{0, d}, {2, d * 15 / 2}};
}

void fill_blocks(exact::Format format, Generator& generator, std::span<std::byte> out) {
    generator.fill(out);
    const auto block_bytes = static_cast<std::size_t>(exact::format_info(format).block_bytes);
    for (const BlockNumber& number : block_numbers(format)) {
        const std::uint16_t bits = nearest_f16(number.value);
        for (std::size_t at = number.offset; at < out.size(); at += block_bytes) {
            out[at] = static_cast<std::byte>(bits & 0xFFU);
            out[at + 1] = static_cast<std::byte>(bits >> 8U);
        }
    }
}

ModelConfig config_of(std::string_view name, int n_layers) {
    const auto* shape = std::find_if(kShapes.begin(), kShapes.end(),
                                     [&](const Shape& s) { return s.name == name; });
    if (shape == kShapes.end()) {
        throw Error(ExitCode::usage, fmt::format("no shape is called {}", printable(name)));
    }
    if (n_layers > shape->n_layers) {
        throw Error(ExitCode::usage,
                    fmt::format("{} has {} layers, not {}", name, shape->n_layers, n_layers));
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

/// Matrices as the file has them, and vectors. Their order is that of the file.
struct Plan {
    ModelConfig config;
    std::vector<EtalonWriter::Matrix> matrices;
    std::vector<EtalonWriter::Vector> vectors;
};

bool is_row_scaled(exact::Format format) {
    return exact::format_info(format).kind == exact::FormatKind::row_scaled;
}

exact::Format format_of(const TensorShape& tensor, exact::Format format) {
    if (is_row_scaled(format))
        return tensor.name.rfind("blk.", 0) == 0 ? format : exact::Format::e8;
    const bool is_head = tensor.name == "output.weight";
    return is_head && format == exact::Format::q4_k ? exact::Format::q6_k : format;
}

Plan plan_of(std::string_view name, exact::Format format, int n_layers) {
    Plan plan{config_of(name, n_layers), {}, {}};
    for (const TensorShape& tensor : model_tensors(plan.config)) {
        if (tensor.is_vector && tensor.is_optional) continue;  // no biases
        if (tensor.is_vector || tensor.is_router) {
            plan.vectors.push_back({tensor.name, tensor.n_cols, tensor.n_rows});
            continue;
        }
        const exact::FormatInfo& info = exact::format_info(format_of(tensor, format));
        if (tensor.n_cols % info.block_elements != 0) {
            throw Error(ExitCode::usage,
                        fmt::format("{} has rows of {} weights, {} has blocks of {}", name,
                                    tensor.n_cols, info.name, info.block_elements));
        }
        plan.matrices.push_back({tensor.name, tensor.n_rows, tensor.n_cols,
                                 is_row_scaled(format) && tensor.name != kEmbeddingName,
                                 format_of(tensor, format)});
    }
    const auto place = [](const EtalonWriter::Matrix& matrix) {
        return !matrix.tiled ? 2 : matrix.format == exact::Format::e4 ? 1 : 0;
    };
    std::stable_sort(plan.matrices.begin(), plan.matrices.end(),
                     [&](const auto& a, const auto& b) { return place(a) < place(b); });
    return plan;
}

/// Row scales that keep activations of the size that real weights give them.
float row_scale(const EtalonWriter::Matrix& matrix) {
    const bool rotated_input = matrix.name.find("attn_output") == std::string::npos && matrix.tiled;
    const int block =
        rotated_input ? exact::rotation_for(static_cast<int>(matrix.n_cols)).block : 1;
    const double deviation = matrix.format == exact::Format::e4 ? e4_deviation() : kE8Deviation;
    return static_cast<float>(kWeightDeviation / deviation / std::sqrt(static_cast<double>(block)));
}

/// Some rows of a matrix.
struct Rows {
    std::vector<std::byte> data;
    std::vector<std::byte> indices;
    std::vector<float> scales;
};

void make_rows(const EtalonWriter::Matrix& matrix, std::int64_t n_rows, Generator& generator,
               Rows& rows) {
    if (!is_row_scaled(matrix.format)) {
        const auto row_bytes =
            exact::row_bytes(matrix.format, static_cast<std::size_t>(matrix.n_cols));
        rows.data.resize(static_cast<std::size_t>(n_rows) * row_bytes.value());
        return fill_blocks(matrix.format, generator, rows.data);
    }
    rows.scales.assign(static_cast<std::size_t>(n_rows), row_scale(matrix));
    if (matrix.format == exact::Format::e4) {
        const std::uint64_t n_lines = e4_lines(n_rows, matrix.n_cols);
        rows.data.resize(n_lines * kE4LineBytes);
        rows.indices.resize(n_lines * kE4LineIndexBytes);
        generator.fill(rows.data);
        generator.fill(rows.indices);
        return;
    }
    rows.data.resize(matrix.tiled ? tile_bytes(n_rows, matrix.n_cols)
                                  : static_cast<std::size_t>(n_rows * matrix.n_cols));
    generator.fill_e8(rows.data);
}

void write_matrix(const EtalonWriter::Matrix& matrix, std::uint64_t seed, EtalonWriter& writer) {
    Generator generator(seed);
    const std::int64_t step =
        std::max<std::int64_t>(kPieceBytes / matrix.n_cols / kTileRows, 1) * kTileRows;
    Rows rows;
    for (std::int64_t row = 0; row < matrix.n_rows; row += step) {
        make_rows(matrix, std::min(step, matrix.n_rows - row), generator, rows);
        writer.add_rows(rows.data, rows.scales, rows.indices);
    }
}

/// Ones; routers random, so that tokens use different experts.
std::vector<float> vector_of(const EtalonWriter::Vector& vector, std::uint64_t seed) {
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

/// The bytes of a model in memory, by name of the tensor. A map moves none of them.
struct Storage {
    std::map<std::string, Rows> matrices;
    std::map<std::string, std::vector<float>> vectors;
};

/// "blk.0.attn_q.weight" for that tensor of every layer.
std::string name_of_first(const std::string& name) {
    const std::size_t begin = name.find('.') + 1;
    return name.rfind("blk.", 0) == 0 ? "blk.0" + name.substr(name.find('.', begin)) : name;
}

}  // namespace

std::vector<std::string> synthetic_names() {
    std::vector<std::string> names;
    for (const Shape& shape : kShapes)
        names.emplace_back(shape.name);
    return names;
}

void write_synthetic(std::string_view name, exact::Format format, int n_layers,
                     const std::filesystem::path& destination) {
    ETALON_ASSERT(is_row_scaled(format));
    const Plan plan = plan_of(name, format, n_layers);
    EtalonWriter writer(destination, plan.config, tokenizer_of(plan.config),
                        {{"source", "random weights of a generator"}}, plan.matrices, plan.vectors);
    for (std::size_t i = 0; i < plan.matrices.size(); ++i)
        write_matrix(plan.matrices[i], i, writer);
    for (std::size_t i = 0; i < plan.vectors.size(); ++i)
        writer.add_vector(vector_of(plan.vectors[i], plan.matrices.size() + i));
    (void)writer.finish();
}

ModelFile synthetic_in_memory(std::string_view name, exact::Format format, int n_layers) {
    const Plan plan = plan_of(name, format, n_layers);
    const auto storage = std::make_shared<Storage>();
    ModelContents contents;
    contents.kind = format == exact::Format::e4   ? FileKind::etalon_e4
                    : format == exact::Format::e8 ? FileKind::etalon_e8
                                                  : FileKind::gguf;
    contents.config = plan.config;
    contents.tokenizer = tokenizer_of(plan.config);
    for (std::size_t i = 0; i < plan.matrices.size(); ++i) {
        const EtalonWriter::Matrix& matrix = plan.matrices[i];
        const auto [found, is_new] = storage->matrices.try_emplace(name_of_first(matrix.name));
        Rows& rows = found->second;
        Generator generator(i);
        if (is_new) make_rows(matrix, matrix.n_rows, generator, rows);
        contents.tensors.push_back({matrix.name, matrix.format, matrix.n_rows, matrix.n_cols,
                                    rows.data, std::as_bytes(std::span(rows.scales)),
                                    rows.indices});
    }
    for (std::size_t i = 0; i < plan.vectors.size(); ++i) {
        const EtalonWriter::Vector& vector = plan.vectors[i];
        std::vector<float>& values = storage->vectors[name_of_first(vector.name)];
        if (values.empty()) values = vector_of(vector, plan.matrices.size() + i);
        contents.tensors.push_back({vector.name,
                                    exact::Format::f32,
                                    vector.n_rows,
                                    vector.size,
                                    std::as_bytes(std::span(values)),
                                    {}});
    }
    check_tensors(contents, std::string(name));
    return ModelFile::in_memory(std::string(name), std::move(contents), storage);
}

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// Import to E8. A matrix goes through as strips of some rows: decoded, rotated in binary64, rounded
// to int8, written as tiles. A strip depends on its rows alone, so threads change no byte.
#include "weights/import.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <numeric>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "exact/formats.h"
#include "exact/rotate.h"
#include "text/tokenizer.h"
#include "text/tokenizer_file.h"
#include "weights/internal/etalon_file.h"
#include "weights/model_file.h"

namespace etalon::weights {

namespace {

// Strips of one wave for each thread: enough that no thread waits long, few enough to stay small.
constexpr int kStripsThread = 4;
// Progress and the hash of the source run over pieces of this size.
constexpr std::size_t kHashBytes = std::size_t{16} << 20;

/// How the weights of a matrix change with the rotations around it (ROT-5 to ROT-7).
struct MatrixPlan {
    const Tensor* tensor = nullptr;
    std::string name;
    bool rotated_input = false;      ///< rows are multiplied by the inverse of R
    bool rotated_heads_in = false;   ///< columns stand for heads of V (attn_output)
    bool rotated_heads_out = false;  ///< rows stand for heads of V (attn_v)
    bool signed_rows = false;        ///< rows carry the signs of what R rotates next (ffn_up)
    bool tiled = true;               ///< false: rows in order
    std::int64_t strip_rows = kTileRows;
};

bool name_has(const std::string& name, std::string_view part) {
    return name.find(part) != std::string::npos;
}

MatrixPlan plan_of(const Tensor& tensor, const std::string& name, const ModelConfig& config) {
    MatrixPlan plan{&tensor, name};
    plan.rotated_heads_in = name_has(name, "attn_output.");
    plan.rotated_heads_out = name_has(name, "attn_v.");
    plan.signed_rows = name_has(name, "ffn_up.");
    plan.tiled = name != kEmbeddingName;
    plan.rotated_input = !plan.rotated_heads_in && plan.tiled;
    // A strip of V holds whole heads and whole tiles.
    if (plan.rotated_heads_out) {
        plan.strip_rows = std::lcm(kTileRows, std::int64_t{config.head_dim});
    }
    return plan;
}

/// Multiplies columns of a strip of V: for each column, the rows of every head are rotated.
void rotate_rows_of_heads(std::vector<double>& strip, std::int64_t n_rows, std::size_t n_cols,
                          const ModelConfig& config) {
    const auto head_dim = static_cast<std::size_t>(config.head_dim);
    const int block = exact::head_rotation_for(config.head_dim).block;
    std::vector<double> column(head_dim);
    for (std::size_t first = 0; first < static_cast<std::size_t>(n_rows); first += head_dim) {
        for (std::size_t col = 0; col < n_cols; ++col) {
            for (std::size_t i = 0; i < head_dim; ++i)
                column[i] = strip[(first + i) * n_cols + col];
            exact::rotate_orthonormal(block, column);
            for (std::size_t i = 0; i < head_dim; ++i)
                strip[(first + i) * n_cols + col] = column[i];
        }
    }
}

/// Rows [first_row, first_row + n_rows) as binary64, rotated.
std::vector<double> rotated_strip(const MatrixPlan& plan, std::int64_t first_row,
                                  std::int64_t n_rows, const ModelConfig& config) {
    const Tensor& tensor = *plan.tensor;
    const auto n_cols = static_cast<std::size_t>(tensor.n_cols);
    const std::size_t row_bytes = *exact::row_bytes(tensor.format, n_cols);
    std::vector<double> strip(static_cast<std::size_t>(n_rows) * n_cols);
    std::vector<float> row(n_cols);
    for (std::int64_t r = 0; r < n_rows; ++r) {
        const auto offset = static_cast<std::size_t>(first_row + r) * row_bytes;
        exact::dequantize_row(tensor.format, tensor.data.subspan(offset, row_bytes), row);
        const bool negative =
            plan.signed_rows && exact::rotation_sign(static_cast<int>(first_row + r)) < 0.0F;
        for (std::size_t i = 0; i < n_cols; ++i) {
            const auto value = static_cast<double>(row[i]);
            strip[static_cast<std::size_t>(r) * n_cols + i] = negative ? -value : value;
        }
    }
    if (plan.rotated_heads_out) rotate_rows_of_heads(strip, n_rows, n_cols, config);
    const exact::Rotation rotation = exact::rotation_for(static_cast<int>(n_cols));
    const auto head_dim = static_cast<std::size_t>(config.head_dim);
    const int head_block = exact::head_rotation_for(config.head_dim).block;
    std::vector<double> scratch(n_cols);
    for (std::int64_t r = 0; r < n_rows; ++r) {
        const auto out = std::span(strip).subspan(static_cast<std::size_t>(r) * n_cols, n_cols);
        if (plan.rotated_input) exact::unrotate_weights_row(rotation, out, scratch);
        for (std::size_t i = 0; plan.rotated_heads_in && i < n_cols; i += head_dim)
            exact::rotate_orthonormal(head_block, out.subspan(i, head_dim));
    }
    return strip;
}

struct Strip {
    std::vector<std::byte> tiles;
    std::vector<float> scales;
};

/// Nearest integer, ties to even, of abs(x) < 2^51.
double nearest(double x) {
    constexpr double kMagic = 0x1.8p52;
    return (x + kMagic) - kMagic;
}

/// Where element i of row `index` stands in the tiles (layouts.md).
std::size_t tile_place(std::size_t index, std::size_t i, std::size_t n_cols) {
    const std::size_t tile = index / kTileRows * kTileRows * n_cols;
    const std::size_t line = i / kTileColumns * (kTileRows * kTileColumns);
    return tile + line + index % kTileRows * kTileColumns + i % kTileColumns;
}

/// A row to int8 with d = amax / 127, no clipping; returns d.
float quantize_row(std::span<const double> row, std::size_t index, bool tiled,
                   std::span<std::byte> out) {
    double amax = 0.0;
    for (const double value : row)
        amax = std::max(amax, std::abs(value));
    constexpr double kLevels = 127.0;
    const auto d = static_cast<float>(amax / kLevels);
    // Below the normal range of binary32 a scale has too few bits: such a row counts as zero.
    constexpr float kScaleMin = 0x1p-126F;
    if (!(d >= kScaleMin)) return 0.0F;
    for (std::size_t i = 0; i < row.size(); ++i) {
        const double q = std::clamp(nearest(row[i] / static_cast<double>(d)), -kLevels, kLevels);
        const std::size_t place = tiled ? tile_place(index, i, row.size()) : index * row.size() + i;
        out[place] = static_cast<std::byte>(static_cast<std::int8_t>(q));
    }
    return d;
}

Strip make_strip(const MatrixPlan& plan, std::int64_t first_row, const ModelConfig& config) {
    const std::int64_t n_rows = std::min(plan.strip_rows, plan.tensor->n_rows - first_row);
    const std::vector<double> rows = rotated_strip(plan, first_row, n_rows, config);
    const auto n_cols = static_cast<std::size_t>(plan.tensor->n_cols);
    Strip strip;
    strip.tiles.resize(plan.tiled ? tile_bytes(n_rows, plan.tensor->n_cols) : rows.size());
    for (std::size_t r = 0; r < static_cast<std::size_t>(n_rows); ++r) {
        const auto row = std::span(rows).subspan(r * n_cols, n_cols);
        strip.scales.push_back(quantize_row(row, r, plan.tiled, strip.tiles));
    }
    return strip;
}

/// Norm weights and biases in binary32, with the signs and rotations that belong to them.
std::vector<float> vector_of(const Tensor& tensor, const ModelConfig& config) {
    std::vector<float> values(static_cast<std::size_t>(tensor.n_cols));
    exact::dequantize_row(tensor.format, tensor.data, values);
    if (name_has(tensor.name, "norm.") || name_has(tensor.name, "ffn_up.")) {
        for (std::size_t i = 0; i < values.size(); ++i)
            values[i] *= exact::rotation_sign(static_cast<int>(i));
    }
    if (name_has(tensor.name, "attn_v.")) {
        std::vector<double> wide(values.begin(), values.end());
        const auto head_dim = static_cast<std::size_t>(config.head_dim);
        const int block = exact::head_rotation_for(config.head_dim).block;
        for (std::size_t i = 0; i < wide.size(); i += head_dim)
            exact::rotate_orthonormal(block, std::span(wide).subspan(i, head_dim));
        std::transform(wide.begin(), wide.end(), values.begin(),
                       [](double value) { return static_cast<float>(value); });
    }
    return values;
}

/// A vocabulary of which no tokenizer can be made, or that cannot be stored, is refused before the
/// long work, with the name of the source.
void check_tokenizer(const text::TokenizerData& data, const std::string& source) {
    try {
        (void)text::Tokenizer(data);
        (void)text::tokenizer_to_json(data);
    } catch (const Error& error) {
        throw Error(error.code(), fmt::format("{} ({})", error.message(), source), error.hint());
    }
}

/// One import: source, what is written, and how far it is.
class Import {
  public:
    Import(const std::filesystem::path& source, const ImportOptions& options)
        : options_(options), file_(ModelFile::open(source)), pool_(options.n_threads) {
        const std::string name = printable(source.string());
        if (file_.rotated()) {
            throw Error(ExitCode::invalid, fmt::format("{} is an Etalon file already", name));
        }
        check_tokenizer(file_.tokenizer(), name);
        for (const TensorShape& shape : model_tensors(file_.config())) {
            // A tied head is written beside the embeddings: it is rotated, they are not.
            const bool tied_head = shape.name == "output.weight" && !file_.has(shape.name);
            const std::string stored = tied_head ? "token_embd.weight" : shape.name;
            if (!file_.has(stored)) continue;
            const Tensor& tensor = file_.tensor(stored, shape.n_rows, shape.n_cols);
            if (shape.is_vector) {
                vectors_.push_back(&tensor);
                continue;
            }
            if (shape.n_cols % kTileColumns != 0) {
                throw Error(ExitCode::invalid,
                            fmt::format("tensor {}: {} columns, E8 needs a multiple of {} ({})",
                                        stored, shape.n_cols, kTileColumns, name));
            }
            matrices_.push_back(plan_of(tensor, shape.name, file_.config()));
        }
        std::stable_partition(matrices_.begin(), matrices_.end(),
                              [](const MatrixPlan& plan) { return plan.tiled; });
        for (const MappedFile& map : file_.files())
            total_bytes_ += map.bytes().size();
        for (const MatrixPlan& plan : matrices_)
            total_bytes_ += plan.tensor->data.size();
    }

    ImportResult run(const std::filesystem::path& destination) {
        std::vector<EtalonWriter::Matrix> matrices;
        for (const MatrixPlan& plan : matrices_)
            matrices.push_back({plan.name, plan.tensor->n_rows, plan.tensor->n_cols, plan.tiled});
        std::vector<EtalonWriter::Vector> vectors;
        for (const Tensor* tensor : vectors_)
            vectors.push_back({tensor->name, tensor->n_cols});
        EtalonWriter writer(destination, file_.config(), file_.tokenizer(), source_metadata(),
                            matrices, vectors);
        for (const MatrixPlan& plan : matrices_)
            write_matrix(plan, writer);
        for (const Tensor* tensor : vectors_)
            writer.add_vector(vector_of(*tensor, file_.config()));
        return writer.finish();
    }

  private:
    void advance(std::uint64_t bytes) {
        done_bytes_ += bytes;
        if (options_.progress) options_.progress(done_bytes_, total_bytes_);
    }

    /// Descriptions of the source, and the SHA-256 of its files. Names and folders of the files do
    /// not enter: equal content gives equal bytes.
    std::map<std::string, std::string> source_metadata() {
        std::map<std::string, std::string> metadata = file_.metadata();
        metadata.erase("file type");  // the source's
        std::string hashes;
        for (const MappedFile& map : file_.files()) {
            Sha256 hash;
            for (std::size_t i = 0; i < map.bytes().size(); i += kHashBytes) {
                const std::size_t n = std::min(kHashBytes, map.bytes().size() - i);
                hash.update(map.bytes().subspan(i, n));
                map.drop(i, n);
                advance(n);
            }
            hashes += (hashes.empty() ? "" : " ") + to_hex(hash.finish());
        }
        metadata["source sha256"] = hashes;
        return metadata;
    }

    void write_matrix(const MatrixPlan& plan, EtalonWriter& writer) {
        const std::int64_t n_rows = plan.tensor->n_rows;
        const std::int64_t wave_rows = plan.strip_rows * kStripsThread * pool_.n_threads();
        for (std::int64_t first = 0; first < n_rows; first += wave_rows) {
            const std::int64_t wave_end = std::min(first + wave_rows, n_rows);
            const auto n_strips =
                static_cast<int>((wave_end - first + plan.strip_rows - 1) / plan.strip_rows);
            std::vector<Strip> strips(static_cast<std::size_t>(n_strips));
            pool_.run(n_strips, [&](int strip, int) {
                strips[static_cast<std::size_t>(strip)] =
                    make_strip(plan, first + strip * plan.strip_rows, file_.config());
            });
            for (const Strip& strip : strips)
                writer.add_rows(strip.tiles, strip.scales);
            const auto row_bytes = plan.tensor->data.size() / static_cast<std::size_t>(n_rows);
            drop_rows(plan, first, wave_end, row_bytes);
            advance(static_cast<std::uint64_t>(wave_end - first) * row_bytes);
        }
    }

    /// Lets go of pages of the source that were read, so that a large model keeps a small
    /// footprint.
    void drop_rows(const MatrixPlan& plan, std::int64_t begin, std::int64_t end,
                   std::size_t row_bytes) const {
        const std::byte* data = plan.tensor->data.data();
        for (const MappedFile& map : file_.files()) {
            const auto bytes = map.bytes();
            if (data < bytes.data() || data >= bytes.data() + bytes.size()) continue;
            const auto offset = static_cast<std::size_t>(data - bytes.data());
            map.drop(offset + static_cast<std::size_t>(begin) * row_bytes,
                     static_cast<std::size_t>(end - begin) * row_bytes);
        }
    }

    const ImportOptions& options_;
    ModelFile file_;
    ThreadPool pool_;
    std::vector<MatrixPlan> matrices_;
    std::vector<const Tensor*> vectors_;
    std::uint64_t done_bytes_ = 0;
    std::uint64_t total_bytes_ = 0;
};

}  // namespace

ImportResult import_e8(const std::filesystem::path& source,
                       const std::filesystem::path& destination, const ImportOptions& options) {
    Import import(source, options);
    return import.run(destination);
}

}  // namespace etalon::weights

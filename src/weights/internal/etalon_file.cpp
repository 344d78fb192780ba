// SPDX-License-Identifier: Apache-2.0
// Etalon's own model file. Order of the data: tiles of E8 matrices (each a multiple of 64 bytes, so
// that every line is aligned in the map), lines and indices of each E4 matrix (multiples of 16
// bytes), rows, then the scales of all matrices, then the vectors.
#include "weights/internal/etalon_file.h"

#include <algorithm>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unistd.h>

#include "base/error.h"
#include "exact/version.h"
#include "text/tokenizer_file.h"
#include "weights/internal/etalon_config.h"
#include "weights/internal/safetensors.h"

namespace etalon::weights {

namespace {

using nlohmann::json;

constexpr std::string_view kFormatKey = "etalon.format";
constexpr std::string_view kVersionKey = "etalon.arithmetic";
const std::string kVersion = std::to_string(exact::kArithmeticVersion);
constexpr std::string_view kConfigKey = "etalon.config";
constexpr std::string_view kTokenizerKey = "etalon.tokenizer";
constexpr std::string_view kScaleSuffix = ".scale";
constexpr std::string_view kIndexSuffix = ".index";
constexpr std::size_t kLineBytes = 64;
/// The codes of a row in a line, which a kernel reads at once.
constexpr std::size_t kE4RowBytes = 16;

const std::string& metadata_of(const SafetensorsFile& file, std::string_view key,
                               const std::string& name) {
    const auto found = file.metadata.find(std::string(key));
    if (found == file.metadata.end()) refuse(name, key, "is missing");
    return found->second;
}

/// Names without "etalon." are for people: licence, sources.
std::map<std::string, std::string> described(const SafetensorsFile& file) {
    std::map<std::string, std::string> out;
    for (const auto& [key, value] : file.metadata) {
        if (key.rfind("etalon.", 0) != 0) out[key] = value;
    }
    out["arithmetic"] = kVersion;
    return out;
}

/// A map starts at a page, so the address tells the place in the file.
void check_alignment(const SafetensorsEntry& entry, std::size_t bytes, const std::string& file) {
    const auto address = reinterpret_cast<std::uintptr_t>(entry.data.data());
    if (address % bytes == 0) return;
    refuse(file, "tensor " + entry.name, fmt::format("is not aligned to {} bytes", bytes));
}

Tensor vector_tensor(const SafetensorsEntry& entry, const std::string& file) {
    if (entry.dtype != "F32" || entry.shape.size() != 1) {
        refuse(file, "tensor " + entry.name, "is neither tiles, lines nor a binary32 vector");
    }
    check_alignment(entry, sizeof(float), file);
    return {entry.name, exact::Format::f32, 1, entry.shape[0], entry.data, {}};
}

/// Rows of a matrix: as many as it has scales. `scales` may be null.
std::int64_t rows_of(const SafetensorsEntry& entry, const SafetensorsEntry* scales,
                     const std::string& file) {
    if (scales == nullptr || scales->dtype != "F32" || scales->shape.size() != 1) {
        refuse(file, "tensor " + entry.name, "has no row scales");
    }
    check_alignment(*scales, sizeof(float), file);
    return scales->shape[0];
}

Tensor e8_tensor(const SafetensorsEntry& entry, const SafetensorsEntry* scales,
                 const std::string& file) {
    const std::string field = "tensor " + entry.name;
    const auto& shape = entry.shape;
    const std::int64_t n_rows = rows_of(entry, scales, file);
    if (entry.name == kEmbeddingName) {
        if (shape.size() != 2 || shape[0] != n_rows) refuse(file, field, "is not in plain rows");
        return {entry.name, exact::Format::e8, n_rows, shape[1], entry.data, scales->data};
    }
    if (shape.size() != 4 || shape[2] != kTileRows || shape[3] != kTileColumns) {
        refuse(file, field, "is not in tiles of 16 rows");
    }
    const std::int64_t n_cols = shape[1] * kTileColumns;
    if ((n_rows + kTileRows - 1) / kTileRows != shape[0]) {
        refuse(file, field, fmt::format("has {} tiles, {} row scales", shape[0], n_rows));
    }
    if (n_cols > kDimMax) refuse(file, field, fmt::format("has {} columns", n_cols));
    check_alignment(entry, kLineBytes, file);
    return {entry.name, exact::Format::e8, n_rows, n_cols, entry.data, scales->data};
}

Tensor e4_tensor(const SafetensorsEntry& entry, const SafetensorsEntry* scales,
                 const SafetensorsEntry* indices, const std::string& file) {
    const std::string field = "tensor " + entry.name;
    const auto& shape = entry.shape;
    const std::int64_t n_rows = rows_of(entry, scales, file);
    if (shape.size() != 4 || shape[2] != kE4LineRows ||
        shape[3] != static_cast<std::int64_t>(kE4RowBytes)) {
        refuse(file, field, "is not in lines of 4 rows");
    }
    if ((n_rows + kTileRows - 1) / kTileRows * (kTileRows / kE4LineRows) != shape[0]) {
        refuse(file, field, fmt::format("has {} groups of rows, {} row scales", shape[0], n_rows));
    }
    const std::int64_t n_cols = shape[1] * kE4LineColumns;
    if (n_cols > kDimMax) refuse(file, field, fmt::format("has {} columns", n_cols));
    if (indices == nullptr || indices->dtype != "U8" ||
        indices->shape != std::vector{shape[0], shape[1], kE4LineRows}) {
        refuse(file, field, "has no table indices of its shape");
    }
    check_alignment(entry, kE4RowBytes, file);
    check_alignment(*indices, kE4RowBytes, file);
    return {entry.name, exact::Format::e4, n_rows, n_cols, entry.data, scales->data, indices->data};
}

bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

/// Entries by name.
class Entries {
  public:
    explicit Entries(const SafetensorsFile& file) {
        for (const SafetensorsEntry& entry : file.entries)
            by_name_[entry.name] = &entry;
    }

    /// Null when there is none.
    const SafetensorsEntry* find(const std::string& name) const {
        const auto found = by_name_.find(name);
        return found == by_name_.end() ? nullptr : found->second;
    }

    /// Whether the entry is a part of a matrix: its scales or its indices. One that belongs to no
    /// matrix is refused.
    bool is_part(const SafetensorsEntry& entry, const std::string& file) const {
        const bool scales = ends_with(entry.name, kScaleSuffix);
        const bool indices = ends_with(entry.name, kIndexSuffix);
        if (!scales && !indices) return false;
        const std::size_t suffix = scales ? kScaleSuffix.size() : kIndexSuffix.size();
        const auto* matrix = find(entry.name.substr(0, entry.name.size() - suffix));
        const bool belongs = matrix != nullptr && !ends_with(matrix->name, kIndexSuffix) &&
                             (matrix->dtype == "U8" || (scales && matrix->dtype == "I8"));
        if (!belongs) refuse(file, "tensor " + entry.name, "belongs to no matrix");
        return true;
    }

  private:
    std::map<std::string_view, const SafetensorsEntry*> by_name_;
};

std::vector<Tensor> read_tensors(const SafetensorsFile& safetensors, const std::string& file) {
    const Entries entries(safetensors);
    std::vector<Tensor> tensors;
    for (const SafetensorsEntry& entry : safetensors.entries) {
        if (entries.is_part(entry, file)) continue;
        const auto* scales = entries.find(entry.name + std::string(kScaleSuffix));
        const auto* indices = entries.find(entry.name + std::string(kIndexSuffix));
        if (entry.dtype == "I8") {
            tensors.push_back(e8_tensor(entry, scales, file));
        } else if (entry.dtype == "U8") {
            tensors.push_back(e4_tensor(entry, scales, indices, file));
        } else {
            tensors.push_back(vector_tensor(entry, file));
        }
    }
    return tensors;
}

/// The format of each tensor of a file of `format`: E8 has E8 matrices, E4 has them beside the
/// layers, whose matrices are E4.
exact::Format wanted_format(const Tensor& tensor, exact::Format format) {
    const bool is_matrix =
        tensor.name.find("norm") == std::string::npos && ends_with(tensor.name, ".weight");
    if (!is_matrix) return exact::Format::f32;
    return tensor.name.rfind("blk.", 0) == 0 ? format : exact::Format::e8;
}

/// The header: length and JSON, padded so that the data start at a multiple of 64.
std::string header_text(const json& header) {
    std::string text = header.dump();
    const std::size_t end = kHeaderLengthBytes + text.size();
    text.append((kLineBytes - end % kLineBytes) % kLineBytes, ' ');
    std::string out;
    for (std::size_t i = 0; i < kHeaderLengthBytes; ++i)
        out.push_back(static_cast<char>((text.size() >> (8 * i)) & 0xFF));
    return out + text;
}

json header_json(const std::vector<EtalonWriter::Matrix>& matrices,
                 const std::vector<EtalonWriter::Vector>& vectors, std::uint64_t& offset) {
    json header = json::object();
    const auto add = [&](const std::string& name, const char* dtype, const json& shape,
                         std::uint64_t bytes) {
        header[name] = {
            {"dtype", dtype}, {"shape", shape}, {"data_offsets", {offset, offset + bytes}}};
        offset += bytes;
    };
    for (const auto& matrix : matrices) {
        if (!matrix.tiled) {
            add(matrix.name, "I8", {matrix.n_rows, matrix.n_cols},
                static_cast<std::uint64_t>(matrix.n_rows) *
                    static_cast<std::uint64_t>(matrix.n_cols));
            continue;
        }
        const std::int64_t n_tiles = (matrix.n_rows + kTileRows - 1) / kTileRows;
        if (matrix.format == exact::Format::e4) {
            const std::uint64_t n_lines = e4_lines(matrix.n_rows, matrix.n_cols);
            const std::int64_t n_groups = n_tiles * kTileRows / kE4LineRows;
            const std::int64_t n_runs = matrix.n_cols / kE4LineColumns;
            add(matrix.name, "U8", {n_groups, n_runs, kE4LineRows, kE4RowBytes},
                n_lines * kE4LineBytes);
            add(matrix.name + std::string(kIndexSuffix), "U8", {n_groups, n_runs, kE4LineRows},
                n_lines * kE4LineIndexBytes);
            continue;
        }
        add(matrix.name, "I8", {n_tiles, matrix.n_cols / kTileColumns, kTileRows, kTileColumns},
            tile_bytes(matrix.n_rows, matrix.n_cols));
    }
    const auto add_floats = [&](const std::string& name, std::int64_t size) {
        add(name, "F32", {size}, static_cast<std::uint64_t>(size) * sizeof(float));
    };
    for (const auto& matrix : matrices)
        add_floats(matrix.name + std::string(kScaleSuffix), matrix.n_rows);
    for (const auto& vector : vectors)
        add_floats(vector.name, vector.size);
    return header;
}

}  // namespace

bool is_etalon_file(const SafetensorsFile& file) {
    return file.metadata.count(std::string(kFormatKey)) != 0;
}

ModelContents read_etalon_model(const SafetensorsFile& safetensors, const std::string& file) {
    const std::string& name = metadata_of(safetensors, kFormatKey, file);
    const auto format = exact::format_from_name(name);
    if (format != exact::Format::e8 && format != exact::Format::e4) {
        refuse(file, kFormatKey, name + " is not known, e8 and e4 are");
    }
    const std::string& version = metadata_of(safetensors, kVersionKey, file);
    if (version != kVersion) {
        refuse(file, kVersionKey,
               fmt::format("is {}, this program computes {}", version, kVersion));
    }
    ModelContents model;
    model.kind = *format == exact::Format::e4 ? FileKind::etalon_e4 : FileKind::etalon_e8;
    model.config = config_from_json(metadata_of(safetensors, kConfigKey, file), file);
    model.tokenizer =
        text::tokenizer_from_json(metadata_of(safetensors, kTokenizerKey, file), file);
    model.tensors = read_tensors(safetensors, file);
    model.metadata = described(safetensors);
    validate(model.config, file);
    fit_vocabulary(model.tokenizer, model.config, file);
    check_tensors(model, file);
    // The embedding is neither rotated nor in tiles, so it cannot be the head (IMP-1).
    if (model.config.tied_embeddings) refuse(file, "tensor output.weight", "is missing");
    for (const Tensor& tensor : model.tensors) {
        const exact::Format wanted = wanted_format(tensor, *format);
        if (tensor.format == wanted) continue;
        refuse(file, "tensor " + tensor.name,
               fmt::format("is {}, must be {}", exact::format_info(tensor.format).name,
                           exact::format_info(wanted).name));
    }
    return model;
}

std::uint64_t tile_bytes(std::int64_t n_rows, std::int64_t n_cols) noexcept {
    ETALON_ASSERT(n_rows >= 1 && n_cols >= 1 && n_cols % kTileColumns == 0);
    const std::int64_t padded = (n_rows + kTileRows - 1) / kTileRows * kTileRows;
    return static_cast<std::uint64_t>(padded) * static_cast<std::uint64_t>(n_cols);
}

std::uint64_t e4_lines(std::int64_t n_rows, std::int64_t n_cols) noexcept {
    ETALON_ASSERT(n_rows >= 1 && n_cols >= 1 && n_cols % kE4LineColumns == 0);
    const std::int64_t n_groups = (n_rows + kTileRows - 1) / kTileRows * (kTileRows / kE4LineRows);
    return static_cast<std::uint64_t>(n_groups) *
           static_cast<std::uint64_t>(n_cols / kE4LineColumns);
}

EtalonWriter::EtalonWriter(std::filesystem::path destination, const ModelConfig& config,
                           const text::TokenizerData& tokenizer,
                           std::map<std::string, std::string> metadata,
                           const std::vector<Matrix>& matrices, const std::vector<Vector>& vectors)
    : destination_(std::move(destination)) {
    const std::string name = printable(destination_.string());
    std::error_code error;
    if (std::filesystem::exists(destination_, error)) {
        throw Error(ExitCode::failure, fmt::format("{} exists already", name),
                    "choose another name, or remove it first");
    }
    json header = header_json(matrices, vectors, expected_);
    for (const Matrix& matrix : matrices)
        rows_left_.push_back(matrix.n_rows);
    std::reverse(rows_left_.begin(), rows_left_.end());
    const bool e4 = std::any_of(matrices.begin(), matrices.end(), [](const Matrix& matrix) {
        return matrix.format == exact::Format::e4;
    });
    metadata[std::string(kFormatKey)] =
        exact::format_info(e4 ? exact::Format::e4 : exact::Format::e8).name;
    metadata[std::string(kVersionKey)] = kVersion;
    metadata[std::string(kConfigKey)] = config_to_json(config);
    metadata[std::string(kTokenizerKey)] = text::tokenizer_to_json(tokenizer);
    header["__metadata__"] = metadata;
    const std::string text = header_text(header);
    expected_ += text.size();

    temporary_ = destination_;
    temporary_ += fmt::format(".{}.part", ::getpid());
    out_.open(temporary_, std::ios::binary | std::ios::trunc);
    if (!out_) throw Error(ExitCode::failure, fmt::format("cannot write {}", name));
    write(std::as_bytes(std::span(text)));
}

EtalonWriter::~EtalonWriter() {
    if (temporary_.empty()) return;
    out_.close();
    std::error_code ignored;  // the unfinished file is useless either way
    std::filesystem::remove(temporary_, ignored);
}

void EtalonWriter::write(std::span<const std::byte> bytes) {
    out_.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (!out_) {
        throw Error(ExitCode::failure, fmt::format("cannot write {}: is the disk full?",
                                                   printable(temporary_.string())));
    }
    hash_.update(bytes);
    written_ += bytes.size();
}

void EtalonWriter::add_rows(std::span<const std::byte> tiles, std::span<const float> scales,
                            std::span<const std::byte> indices) {
    ETALON_ASSERT(!rows_left_.empty());
    write(tiles);
    scales_.insert(scales_.end(), scales.begin(), scales.end());
    indices_.insert(indices_.end(), indices.begin(), indices.end());
    rows_left_.back() -= static_cast<std::int64_t>(scales.size());
    if (rows_left_.back() > 0) return;
    write(indices_);
    indices_.clear();
    rows_left_.pop_back();
}

void EtalonWriter::add_vector(std::span<const float> values) {
    vectors_.insert(vectors_.end(), values.begin(), values.end());
}

ImportResult EtalonWriter::finish() {
    write(std::as_bytes(std::span(scales_)));
    write(std::as_bytes(std::span(vectors_)));
    ETALON_ASSERT(written_ == expected_);
    out_.close();
    std::error_code error;
    // Read-only: a model is replaced as a whole, never written.
    constexpr auto kReadable = std::filesystem::perms::owner_read |
                               std::filesystem::perms::group_read |
                               std::filesystem::perms::others_read;
    if (out_) std::filesystem::permissions(temporary_, kReadable, error);
    if (out_ && !error) std::filesystem::rename(temporary_, destination_, error);
    if (!out_ || error) {
        throw Error(ExitCode::failure,
                    fmt::format("cannot write {}", printable(destination_.string())));
    }
    temporary_.clear();
    return {to_hex(hash_.finish()), written_};
}

}  // namespace etalon::weights

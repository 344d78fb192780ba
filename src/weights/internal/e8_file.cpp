// SPDX-License-Identifier: Apache-2.0
// Etalon's own model file. Order of the data: tiles of all matrices (each a multiple of 64 bytes,
// so that every line is aligned in the map), then the scales of all matrices, then the vectors.
#include "weights/internal/e8_file.h"

#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <system_error>
#include <unistd.h>

#include "base/error.h"
#include "exact/version.h"
#include "text/tokenizer_file.h"
#include "weights/internal/e8_config.h"
#include "weights/internal/safetensors.h"

namespace etalon::weights {

namespace {

using nlohmann::json;

constexpr std::string_view kFormatKey = "etalon.format";
constexpr std::string_view kFormatName = "e8";
constexpr std::string_view kVersionKey = "etalon.arithmetic";
const std::string kVersion = std::to_string(exact::kArithmeticVersion);
constexpr std::string_view kConfigKey = "etalon.config";
constexpr std::string_view kTokenizerKey = "etalon.tokenizer";
constexpr std::string_view kScaleSuffix = ".scale";
constexpr std::size_t kLineBytes = 64;

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
    const auto& shape = entry.shape;
    const bool is_matrix = shape.size() == 2 && is_router_name(entry.name);
    if (entry.dtype != "F32" || (shape.size() != 1 && !is_matrix)) {
        refuse(file, "tensor " + entry.name, "is neither int8 tiles nor a binary32 vector");
    }
    check_alignment(entry, sizeof(float), file);
    const std::int64_t n_rows = is_matrix ? shape[0] : 1;
    return {entry.name, exact::Format::f32, n_rows, shape.back(), entry.data, {}};
}

Tensor int8_tensor(const SafetensorsEntry& entry, const SafetensorsEntry* scales,
                   const std::string& file) {
    const std::string field = "tensor " + entry.name;
    const auto& shape = entry.shape;
    if (scales == nullptr || scales->dtype != "F32" || scales->shape.size() != 1) {
        refuse(file, field, "has no row scales");
    }
    check_alignment(*scales, sizeof(float), file);
    const std::int64_t n_rows = scales->shape[0];
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

bool ends_with(std::string_view text, std::string_view end) {
    return text.size() >= end.size() && text.substr(text.size() - end.size()) == end;
}

std::vector<Tensor> read_tensors(const SafetensorsFile& safetensors, const std::string& file) {
    std::map<std::string_view, const SafetensorsEntry*> by_name;
    for (const SafetensorsEntry& entry : safetensors.entries)
        by_name[entry.name] = &entry;
    std::vector<Tensor> tensors;
    for (const SafetensorsEntry& entry : safetensors.entries) {
        if (ends_with(entry.name, kScaleSuffix)) {
            const auto matrix = entry.name.substr(0, entry.name.size() - kScaleSuffix.size());
            const auto found = by_name.find(matrix);
            const bool belongs = found != by_name.end() && found->second->dtype == "I8";
            if (!belongs) refuse(file, "tensor " + entry.name, "belongs to no int8 matrix");
            continue;
        }
        if (entry.dtype != "I8") {
            tensors.push_back(vector_tensor(entry, file));
            continue;
        }
        const auto scales = by_name.find(entry.name + std::string(kScaleSuffix));
        const auto* found = scales == by_name.end() ? nullptr : scales->second;
        tensors.push_back(int8_tensor(entry, found, file));
    }
    return tensors;
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

json header_json(const std::vector<E8Writer::Matrix>& matrices,
                 const std::vector<E8Writer::Vector>& vectors, std::uint64_t& offset) {
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
        add(matrix.name, "I8", {n_tiles, matrix.n_cols / kTileColumns, kTileRows, kTileColumns},
            tile_bytes(matrix.n_rows, matrix.n_cols));
    }
    const auto add_floats = [&](const std::string& name, std::int64_t n_rows, std::int64_t size) {
        json shape = json::array({size});
        if (n_rows > 1) shape.insert(shape.begin(), n_rows);
        add(name, "F32", shape, static_cast<std::uint64_t>(n_rows * size) * sizeof(float));
    };
    for (const auto& matrix : matrices)
        add_floats(matrix.name + std::string(kScaleSuffix), 1, matrix.n_rows);
    for (const auto& vector : vectors)
        add_floats(vector.name, vector.n_rows, vector.size);
    return header;
}

}  // namespace

bool is_e8_file(const SafetensorsFile& file) {
    return file.metadata.count(std::string(kFormatKey)) != 0;
}

ModelContents read_e8_model(const SafetensorsFile& safetensors, const std::string& file) {
    const std::string& format = metadata_of(safetensors, kFormatKey, file);
    if (format != kFormatName) refuse(file, kFormatKey, format + " is not known, e8 is");
    const std::string& version = metadata_of(safetensors, kVersionKey, file);
    if (version != kVersion) {
        refuse(file, kVersionKey,
               fmt::format("is {}, this program computes {}", version, kVersion));
    }
    ModelContents model;
    model.kind = FileKind::etalon_e8;
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
        const bool is_matrix = tensor.name.find("norm") == std::string::npos &&
                               ends_with(tensor.name, ".weight") && !is_router_name(tensor.name);
        if (is_matrix != (tensor.format == exact::Format::e8)) {
            refuse(file, "tensor " + tensor.name, is_matrix ? "is not int8" : "is not binary32");
        }
    }
    return model;
}

std::uint64_t tile_bytes(std::int64_t n_rows, std::int64_t n_cols) noexcept {
    ETALON_ASSERT(n_rows >= 1 && n_cols >= 1 && n_cols % kTileColumns == 0);
    const std::int64_t padded = (n_rows + kTileRows - 1) / kTileRows * kTileRows;
    return static_cast<std::uint64_t>(padded) * static_cast<std::uint64_t>(n_cols);
}

E8Writer::E8Writer(std::filesystem::path destination, const ModelConfig& config,
                   const text::TokenizerData& tokenizer,
                   std::map<std::string, std::string> metadata, const std::vector<Matrix>& matrices,
                   const std::vector<Vector>& vectors)
    : destination_(std::move(destination)) {
    const std::string name = printable(destination_.string());
    std::error_code error;
    if (std::filesystem::exists(destination_, error)) {
        throw Error(ExitCode::failure, fmt::format("{} exists already", name),
                    "choose another name, or remove it first");
    }
    json header = header_json(matrices, vectors, expected_);
    metadata[std::string(kFormatKey)] = kFormatName;
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

E8Writer::~E8Writer() {
    if (temporary_.empty()) return;
    out_.close();
    std::error_code ignored;  // the unfinished file is useless either way
    std::filesystem::remove(temporary_, ignored);
}

void E8Writer::write(std::span<const std::byte> bytes) {
    out_.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    if (!out_) {
        throw Error(ExitCode::failure, fmt::format("cannot write {}: is the disk full?",
                                                   printable(temporary_.string())));
    }
    hash_.update(bytes);
    written_ += bytes.size();
}

void E8Writer::add_rows(std::span<const std::byte> tiles, std::span<const float> scales) {
    write(tiles);
    scales_.insert(scales_.end(), scales.begin(), scales.end());
}

void E8Writer::add_vector(std::span<const float> values) {
    vectors_.insert(vectors_.end(), values.begin(), values.end());
}

ImportResult E8Writer::finish() {
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

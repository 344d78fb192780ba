// SPDX-License-Identifier: Apache-2.0
// Etalon's own model file: safetensors with tensors in E8 tiles or E4 lines
// (src/weights/layouts.md), a scale a row, configuration and tokenizer as JSON in its metadata.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/sha256.h"
#include "text/tokenizer_data.h"
#include "weights/import.h"
#include "weights/internal/contents.h"
#include "weights/internal/safetensors.h"
#include "weights/model_config.h"

namespace etalon::weights {

/// Rows of a tile and elements of K that stand together: a line of 64 bytes.
inline constexpr std::int64_t kTileRows = 16;
inline constexpr std::int64_t kTileColumns = 4;
/// Rows and elements of K of a line of E4 codes: 64 bytes and, apart from them, 4 of indices.
inline constexpr std::int64_t kE4LineRows = 4;
inline constexpr std::int64_t kE4LineColumns = 32;

/// True when the metadata say that the file is Etalon's own.
bool is_etalon_file(const SafetensorsFile& file);

/// Errors: invalid.
ModelContents read_etalon_model(const SafetensorsFile& safetensors, const std::string& file);

/// The tensor that is read by single rows and therefore not in tiles.
inline constexpr std::string_view kEmbeddingName = "token_embd.weight";

/// Bytes of the tiles of a matrix; n_cols is a multiple of kTileColumns.
std::uint64_t tile_bytes(std::int64_t n_rows, std::int64_t n_cols) noexcept;
/// Lines of codes of an E4 matrix, whose rows are filled up to whole tiles of kTileRows; n_cols is
/// a multiple of kE4LineColumns.
std::uint64_t e4_lines(std::int64_t n_rows, std::int64_t n_cols) noexcept;
inline constexpr std::uint64_t kE4LineBytes = 64;
inline constexpr std::uint64_t kE4LineIndexBytes = 4;

/// Writes the file from front to back, so that its hash is known at its end. A temporary file
/// stands beside the destination until finish(); it is removed when that is not reached.
///   EtalonWriter writer(path, config, tokenizer, metadata, matrices, vectors);
///   for every matrix in order: writer.add_rows(tiles, scales), as often as needed; with indices
///   where the matrix is E4
///   for every vector in order: writer.add_vector(values)
class EtalonWriter {
  public:
    struct Matrix {
        std::string name;
        std::int64_t n_rows;
        std::int64_t n_cols;
        bool tiled;  ///< false: rows in order (the embedding, of which single rows are read)
        exact::Format format = exact::Format::e8;  ///< or e4, in lines, where it is tiled
    };
    struct Vector {
        std::string name;
        std::int64_t size;
    };

    /// E8 matrices in tiles come first, then E4 ones, then rows: so that all are aligned. The file
    /// is an E4 file when it has one E4 matrix. Errors: failure (destination exists, cannot be
    /// written).
    EtalonWriter(std::filesystem::path destination, const ModelConfig& config,
                 const text::TokenizerData& tokenizer, std::map<std::string, std::string> metadata,
                 const std::vector<Matrix>& matrices, const std::vector<Vector>& vectors);
    ~EtalonWriter();
    EtalonWriter(const EtalonWriter&) = delete;
    EtalonWriter& operator=(const EtalonWriter&) = delete;

    /// All rows but the last ones of a matrix come in whole tiles.
    void add_rows(std::span<const std::byte> tiles, std::span<const float> scales,
                  std::span<const std::byte> indices = {});
    void add_vector(std::span<const float> values);
    ImportResult finish();

  private:
    void write(std::span<const std::byte> bytes);

    std::filesystem::path destination_;
    std::filesystem::path temporary_;
    std::ofstream out_;
    Sha256 hash_;
    std::uint64_t written_ = 0;
    std::uint64_t expected_ = 0;           ///< bytes of the whole file
    std::vector<std::int64_t> rows_left_;  ///< of the matrices that are not whole, the last first
    std::vector<std::byte> indices_;       ///< of the matrix that is being written
    std::vector<float> scales_;            ///< of all matrices; they follow the last tile
    std::vector<float> vectors_;
};

}  // namespace etalon::weights

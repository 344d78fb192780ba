// SPDX-License-Identifier: Apache-2.0
// Etalon's own model file: safetensors with int8 tensors in tiles (src/weights/layouts.md), a scale
// a row, configuration and tokenizer as JSON in its metadata.
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

/// True when the metadata say that the file is Etalon's own.
bool is_e8_file(const SafetensorsFile& file);

/// Errors: invalid.
ModelContents read_e8_model(const SafetensorsFile& safetensors, const std::string& file);

/// The tensor that is read by single rows and therefore not in tiles.
inline constexpr std::string_view kEmbeddingName = "token_embd.weight";

/// Bytes of the tiles of a matrix; n_cols is a multiple of kTileColumns.
std::uint64_t tile_bytes(std::int64_t n_rows, std::int64_t n_cols) noexcept;

/// Writes the file from front to back, so that its hash is known at its end. A temporary file
/// stands beside the destination until finish(); it is removed when that is not reached.
///   E8Writer writer(path, config, tokenizer, metadata, matrices, vectors);
///   for every matrix in order: writer.add_rows(tiles, scales), as often as needed
///   for every vector in order: writer.add_vector(values)
class E8Writer {
  public:
    struct Matrix {
        std::string name;
        std::int64_t n_rows;
        std::int64_t n_cols;
        bool tiled;  ///< false: rows in order (the embedding, of which single rows are read)
    };
    struct Vector {
        std::string name;
        std::int64_t size;
        std::int64_t n_rows = 1;  ///< more: a matrix of so many such rows (a router)
    };

    /// Matrices in tiles come first. Errors: failure (destination exists, cannot be written).
    E8Writer(std::filesystem::path destination, const ModelConfig& config,
             const text::TokenizerData& tokenizer, std::map<std::string, std::string> metadata,
             const std::vector<Matrix>& matrices, const std::vector<Vector>& vectors);
    ~E8Writer();
    E8Writer(const E8Writer&) = delete;
    E8Writer& operator=(const E8Writer&) = delete;

    void add_rows(std::span<const std::byte> tiles, std::span<const float> scales);
    void add_vector(std::span<const float> values);
    ImportResult finish();

  private:
    void write(std::span<const std::byte> bytes);

    std::filesystem::path destination_;
    std::filesystem::path temporary_;
    std::ofstream out_;
    Sha256 hash_;
    std::uint64_t written_ = 0;
    std::uint64_t expected_ = 0;  ///< bytes of the whole file
    std::vector<float> scales_;   ///< of all matrices; they follow the last tile
    std::vector<float> vectors_;
};

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// What every reader of this folder produces, and the checks that all of them share.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"
#include "weights/model_config.h"
#include "weights/model_file.h"

namespace etalon::weights {

struct ModelContents {
    FileKind kind = FileKind::gguf;
    ModelConfig config;
    text::TokenizerData tokenizer;
    std::vector<Tensor> tensors;
    std::map<std::string, std::string> metadata;
};

/// Throws Error(invalid) "FIELD: REASON (FILE)"; the field comes from the file and is made
/// printable.
[[noreturn]] void refuse(const std::string& file, std::string_view field, std::string_view reason);

/// The tensors of a transformer of this shape, in the order of the forward pass.
struct TensorShape {
    std::string name;
    std::int64_t n_rows;
    std::int64_t n_cols;
    bool is_vector;    ///< read as binary32: norms and biases
    bool is_optional;  ///< biases, and the head of a model with tied embeddings
};
std::vector<TensorShape> model_tensors(const ModelConfig& config);

/// Everything is there, in its shape and in a format that is computed; nothing unknown is there.
/// Fills config.tied_embeddings.
void check_tensors(ModelContents& model, const std::string& file);

/// Every weight or scale is finite; e8, e4: d >= 0; e8: q >= -127. Reads every row with all
/// processors, and calls `pause` after each 256 MiB, so that a caller can let go of the pages that
/// were read.
void check_finite(const std::vector<Tensor>& tensors, const std::string& file,
                  const std::function<void()>& pause = {});

/// Unused tokens up to the rows of the embedding; more tokens than rows are refused.
void fit_vocabulary(text::TokenizerData& tokenizer, const ModelConfig& config,
                    const std::string& file);

/// A GGUF file in memory. The tensors point into `bytes`.
ModelContents read_gguf_model(std::span<const std::byte> bytes, const std::string& file);

}  // namespace etalon::weights

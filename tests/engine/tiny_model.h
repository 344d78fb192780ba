// SPDX-License-Identifier: Apache-2.0
// A tiny model with random weights and a byte tokenizer, written to a file once a process.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>

#include "backend/operations.h"
#include "model/transformer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_data.h"
#include "weights/model_file.h"

namespace etalon::engine {

inline constexpr int kTinyVocab = 288;
inline constexpr int kTinyContext = 512;
inline constexpr std::int32_t kTinyEnd = 0;  ///< the model's end token
inline constexpr std::int32_t kTinyPoison =
    287;  ///< its embedding overflows: ERR-1 at its position

/// The id of a byte: letters of prompts and answers.
inline std::int32_t tiny_byte(char byte) {
    return 1 + static_cast<unsigned char>(byte);
}

/// The model on one backend. Making one costs a few milliseconds; tests share it.
struct TinyModel {
    explicit TinyModel(std::unique_ptr<backend::Backend> its_device);
    TinyModel(std::unique_ptr<backend::Backend> its_device, const weights::ModelFile& file);

    std::unique_ptr<backend::Backend> device;
    model::Transformer transformer;  ///< batches of up to 256 tokens
};

/// The model's vocabulary: the end token, the 256 bytes, some words, then unused ones.
text::TokenizerData tiny_tokenizer_data();
/// Writes the model with this vocabulary of kTinyVocab tokens; with experts a token uses two.
void write_tiny(const std::filesystem::path& path, const text::TokenizerData& tokenizer,
                int n_experts = 0);

const weights::ModelFile& tiny_file();
/// The same with five experts in each layer.
const weights::ModelFile& tiny_experts_file();
const text::Tokenizer& tiny_tokenizer();
/// The CPU with the best instruction set that there is, or the card of ETALON_TEST_CARD=cuda:N.
std::unique_ptr<backend::Backend> tiny_device();
/// On tiny_device().
TinyModel& tiny_model();
/// On the reference.
TinyModel& tiny_reference();

}  // namespace etalon::engine

// SPDX-License-Identifier: Apache-2.0
// Model files of a few hundred kilobytes with random weights: E8, E4, and GGUF of any formats.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "exact/formats.h"
#include "weights/model_file.h"

namespace etalon::model::tiny {

/// Width 256, two layers, 16 heads on four KV heads of 48, 200 tokens, a context of 300. Widths
/// are multiples of 256, so that every format fits.
weights::ModelConfig config();

struct Options {
    std::vector<std::string> biased{};  ///< matrices of a layer with a bias: "attn_q", ...
    bool own_head = true;               ///< output.weight; else the embedding is the head (GGUF)
    float norm_weight = 1.0F;           ///< norm weights are near it
};

/// A file in the folder for temporary files, removed at the end.
class TemporaryFile {
  public:
    explicit TemporaryFile(const std::string& suffix);
    ~TemporaryFile();
    TemporaryFile(const TemporaryFile&) = delete;
    TemporaryFile& operator=(const TemporaryFile&) = delete;

    const std::filesystem::path& path() const noexcept { return path_; }

  private:
    std::filesystem::path path_;
};

/// A written model, opened.
struct TemporaryModel {
    std::unique_ptr<TemporaryFile> on_disk;
    weights::ModelFile model;

    const weights::ModelFile& file() const noexcept { return model; }
};

std::unique_ptr<TemporaryModel> make_e8(const weights::ModelConfig& config,
                                        const Options& options = {});
std::unique_ptr<TemporaryModel> make_e4(const weights::ModelConfig& config,
                                        const Options& options = {});

/// The format of each matrix by its name, as "blk.0.attn_v.weight".
using FormatOf = std::function<exact::Format(const std::string& name)>;
std::unique_ptr<TemporaryModel> make_gguf(const weights::ModelConfig& config,
                                          const FormatOf& format_of, const Options& options = {});

}  // namespace etalon::model::tiny

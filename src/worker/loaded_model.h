// SPDX-License-Identifier: Apache-2.0
// A model that is ready to serve: file, tokenizer, device, transformer, engine.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "backend/operations.h"
#include "base/file.h"
#include "engine/engine.h"
#include "model/transformer.h"
#include "text/fim_prompt.h"
#include "text/prompt_layout.h"
#include "text/tokenizer.h"
#include "weights/model_file.h"
#include "wire/messages.h"

namespace etalon::worker {

struct ModelOptions {
    std::filesystem::path path;
    std::string backend = "cpu";    ///< "exact", or anything else: the CPU
    const char* isa = nullptr;      ///< of ETALON_ISA; null: the best one
    int threads = 0;                ///< 0: one a processor
    int context = 0;                ///< most tokens of a request; 0: what the model allows
    std::uint64_t cache_bytes = 0;  ///< 0: kDefaultContexts, at most half of the memory left
    bool hash = false;              ///< fill Hello::file_sha256
    /// Bytes that the process may use, asked before the sandbox closes.
    std::uint64_t available_bytes = UINT64_MAX;
    std::uint64_t entropy = 0;
    FileCheck check;     ///< of ModelFile::open()
    std::string sha256;  ///< of the file, where it is known already
};

class LoadedModel {
  public:
    /// Errors: as of weights::ModelFile, text::Tokenizer, model::check_memory; usage (the cache
    /// holds no page).
    /// `card`: what to compute on in place of the processor; nullptr: options.backend says.
    explicit LoadedModel(const ModelOptions& options,
                         std::unique_ptr<backend::Backend> card = nullptr);

    const text::Tokenizer& tokenizer() const noexcept { return tokenizer_; }
    engine::Engine& engine() noexcept { return *engine_; }
    model::Transformer& transformer() noexcept { return *transformer_; }
    const weights::ModelConfig& config() const noexcept { return file_.config(); }
    const engine::Room& room() const noexcept { return room_; }
    const std::optional<text::PromptLayout>& layout() const noexcept { return layout_; }
    const std::optional<text::FimTokens>& fim() const noexcept { return fim_; }
    /// Everything but the sandbox.
    wire::Hello hello() const;

  private:
    int cache_pages(const ModelOptions& options) const;
    std::uint64_t available_bytes(const ModelOptions& options) const;
    bool on_card() const { return backend_->free_bytes().has_value(); }
    engine::EngineOptions engine_options(const ModelOptions& options) const;

    weights::ModelFile file_;
    text::Tokenizer tokenizer_;
    std::optional<text::PromptLayout> layout_;
    std::optional<text::FimTokens> fim_;
    std::unique_ptr<backend::Backend> backend_;
    std::unique_ptr<model::Transformer> transformer_;
    std::unique_ptr<engine::Engine> engine_;
    engine::Room room_;  // the engine's, with the context of the options
    std::string sha256_;
};

}  // namespace etalon::worker

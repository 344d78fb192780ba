// SPDX-License-Identifier: Apache-2.0
// A safetensors file, Etalon's own E8 and E4 files in it, and the tensors of Hugging Face: an
// Error, or a model that can be used.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>

#include "base/error.h"
#include "use_model.h"
#include "weights/internal/etalon_file.h"
#include "weights/internal/hf_model.h"
#include "weights/internal/safetensors.h"

namespace {

namespace weights = etalon::weights;

// Tiles are aligned to lines of 64 bytes: a mapped file is, the fuzzer's input need not be.
constexpr std::align_val_t kLine{64};

struct LineDelete {
    void operator()(std::byte* bytes) const { ::operator delete[](bytes, kLine); }
};

/// The folder around the tensors: one layer, four channels, two tokens.
const weights::HfTexts& texts() {
    static const weights::HfTexts out{
        .folder = "folder",
        .config = R"({"model_type": "llama", "hidden_size": 4, "intermediate_size": 4,
            "num_hidden_layers": 1, "num_attention_heads": 1, "vocab_size": 2,
            "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "tie_word_embeddings": true})",
        .generation_config = "",
        .tokenizer_json = R"({"model": {"vocab": {"a": 0, "b": 1}, "merges": []},
            "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false}})",
        .tokenizer_model = "",
        .tokenizer_config = "",
        .chat_template = ""};
    return out;
}

void use(std::span<const std::byte> bytes) {
    const auto file = weights::parse_safetensors(bytes, "input");
    etalon::fuzz::use_model(weights::is_etalon_file(file)
                                ? weights::read_etalon_model(file, "input")
                                : weights::read_hf_model(texts(), {{"input", file}}, "folder"));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::unique_ptr<std::byte[], LineDelete> aligned(new (kLine) std::byte[size]);
    if (size > 0) std::memcpy(aligned.get(), data, size);
    try {
        use({aligned.get(), size});
    } catch (const etalon::Error& error) {
        ETALON_ASSERT(error.code() == etalon::ExitCode::invalid);
    }
    return 0;
}

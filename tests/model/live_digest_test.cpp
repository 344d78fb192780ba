// SPDX-License-Identifier: Apache-2.0
// The live digest is the same on every backend and in every chunk, and any bit of the weights that
// changes, changes it.
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/cuda/cuda.h"
#include "base/error.h"
#include "model/tiny_model.h"
#include "model/transformer.h"

namespace etalon::model {
namespace {

using backend::Isa;
using exact::Format;

constexpr LiveNonce kNonce{1, 2, 3};
constexpr int kDigestTokensMax = 40;

Format mixed_formats(const std::string& name) {
    if (name.find("attn_v") != std::string::npos) return Format::q6_k;
    if (name.find("ffn_down") != std::string::npos) return Format::q5_0;
    if (name.find("ffn_up") != std::string::npos) return Format::bf16;
    return name == "token_embd.weight" ? Format::q8_0 : Format::q4_k;
}

std::unique_ptr<tiny::TemporaryModel> make(const std::string& kind) {
    tiny::Options options;
    options.biased = {"attn_q", "attn_k", "attn_v"};
    if (kind == "e8") return tiny::make_e8(tiny::config(), options);
    if (kind == "e4") return tiny::make_e4(tiny::config(), options);
    return tiny::make_gguf(tiny::config(), mixed_formats, options);
}

Sha256Digest digest(const weights::ModelFile& file, backend::Backend& device,
                    const LiveNonce& nonce = kNonce, int n_tokens_max = kDigestTokensMax) {
    return Transformer(file, device, n_tokens_max).live_digest(nonce);
}

class LiveDigest : public testing::TestWithParam<std::string> {
  protected:
    std::unique_ptr<tiny::TemporaryModel> model_ = make(GetParam());
    std::unique_ptr<backend::Backend> cpu_ =
        backend::make_cpu_backend(backend::choose_isa(nullptr), 2);
};

TEST_P(LiveDigest, is_the_same_on_every_backend_and_in_every_chunk) {
    const auto exact = backend::make_exact_backend(2);
    const Sha256Digest want = digest(model_->file(), *exact);
    for (const Isa isa : {Isa::generic, Isa::avx2, Isa::avx512}) {
        if (!backend::isa_is_available(isa)) continue;
        const auto device = backend::make_cpu_backend(isa, 1);
        EXPECT_EQ(digest(model_->file(), *device), want) << device->name();
    }
    for (const int n_tokens_max : {1, 5, 16, 300})
        EXPECT_EQ(digest(model_->file(), *cpu_, kNonce, n_tokens_max), want) << n_tokens_max;
    EXPECT_NE(digest(model_->file(), *cpu_, {2}), want);
    if (!backend::conformance::why_no_card().empty()) return;
    EXPECT_EQ(digest(model_->file(), *backend::make_cuda_backend(0)), want);
}

TEST_P(LiveDigest, any_bit_that_changes_is_seen) {
    const Sha256Digest want = digest(model_->file(), *cpu_);
    const std::span<const std::byte> file = model_->file().files().at(0).bytes();
    backend::conformance::Random random(7);
    int n_tried = 0;
    for (const weights::Tensor& tensor : model_->file().tensors()) {
        // The rows that fill the last tile of a matrix belong to nobody.
        if (backend::form_of(tensor.format) == backend::kRowInt8 && tensor.n_rows % 16 != 0)
            continue;
        for (const auto data : {tensor.data, tensor.scales, tensor.indices}) {
            if (data.empty()) continue;
            const tiny::TemporaryFile copy(model_->file().path().extension().string());
            std::string bytes(reinterpret_cast<const char*>(file.data()), file.size());
            const auto at = static_cast<std::size_t>(data.data() - file.data()) +
                            static_cast<std::size_t>(random.below(static_cast<int>(data.size())));
            bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
            std::ofstream(copy.path(), std::ios::binary) << bytes;
            try {
                EXPECT_NE(digest(weights::ModelFile::open(copy.path()), *cpu_), want)
                    << tensor.name << ", byte " << at;
            } catch (const Error& error) {
                EXPECT_EQ(error.code(), ExitCode::invalid);  // a scale is not finite
            }
            ++n_tried;
        }
    }
    EXPECT_GT(n_tried, 20);
}

INSTANTIATE_TEST_SUITE_P(Models, LiveDigest, testing::Values("e8", "e4", "gguf"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace etalon::model

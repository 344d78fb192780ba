// SPDX-License-Identifier: Apache-2.0
// The live digest reads the very weights that the kernels of a card multiply: any bit that changes
// there, changes it. Skipped where there is no card.
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "backend/conformance.h"
#include "backend/cuda/buffers.h"
#include "backend/cuda/cuda.h"
#include "model/tiny_model.h"
#include "model/transformer.h"

namespace etalon::model {
namespace {

using backend::cuda::CudaFloats;
using backend::cuda::CudaLinear;
using backend::cuda::DeviceArray;

constexpr int kCardTokensMax = 40;
constexpr LiveNonce kCardNonce{1, 2, 3};

class CardWeights : public testing::TestWithParam<std::string> {
  protected:
    void SetUp() override {
        if (!backend::conformance::why_no_card().empty()) {
            GTEST_SKIP() << backend::conformance::why_no_card();
        }
        model_ = make_model();
        device_ = backend::make_cuda_backend(0);
        transformer_ = std::make_unique<Transformer>(model_->file(), *device_, kCardTokensMax);
        want_ = transformer_->live_digest(kCardNonce);
    }

    std::unique_ptr<tiny::TemporaryModel> make_model() const {
        weights::ModelConfig config = tiny::config();
        if (GetParam() == "e8_experts") {
            config.n_experts = 4;
            config.n_experts_used = 2;
        }
        if (GetParam() == "gguf") {
            const auto q8_0 = [](const std::string&) { return exact::Format::q8_0; };
            return tiny::make_gguf(config, q8_0, {});
        }
        return GetParam() == "e4" ? tiny::make_e4(config, {}) : tiny::make_e8(config, {});
    }

    std::size_t below(std::size_t n) {
        return static_cast<std::size_t>(random_.below(static_cast<int>(n)));
    }

    /// Flips the lowest bit of a byte and looks for it.
    template <typename T>
    void try_bit(const DeviceArray<T>& array, std::size_t byte, const char* what) {
        auto& weights = const_cast<DeviceArray<T>&>(array);  // what no kernel does
        T before{};
        weights.download(&before, 1, byte / sizeof(T));
        T changed = before;
        reinterpret_cast<unsigned char*>(&changed)[byte % sizeof(T)] ^= 1U;
        weights.upload(&changed, 1, byte / sizeof(T));
        EXPECT_NE(transformer_->live_digest(kCardNonce), want_) << what << ", byte " << byte;
        weights.upload(&before, 1, byte / sizeof(T));
        EXPECT_EQ(transformer_->live_digest(kCardNonce), want_) << what;
    }

    void try_part(const backend::cuda::LinearPart& part, int n_cols) {
        const auto n_rows = static_cast<std::size_t>(part.n_rows);
        if (part.format == exact::Format::e8) {
            // Behind the columns of a row there is room that belongs to nobody.
            const std::size_t stride = part.data.size() / n_rows;
            try_bit(part.data, below(n_rows) * stride + below(static_cast<std::size_t>(n_cols)),
                    "weights");
        } else {
            try_bit(part.data, below(part.data.size()), "weights");  // whole tiles, whole groups
        }
        if (!part.d.empty()) try_bit(part.d, below(n_rows * sizeof(float)), "row scales");
    }

    std::unique_ptr<tiny::TemporaryModel> model_;
    std::unique_ptr<backend::Backend> device_;
    std::unique_ptr<Transformer> transformer_;
    Sha256Digest want_{};
    backend::conformance::Random random_{7};
};

TEST_P(CardWeights, a_bit_that_changes_on_the_card_is_seen) {
    for (const backend::Layer& layer : transformer_->layers()) {
        for (const auto* norm : {layer.attn_norm, layer.ffn_norm})
            try_bit(static_cast<const CudaFloats*>(norm)->storage,
                    below(norm->size() * sizeof(float)), "norm");
        std::vector<const backend::LinearWeights*> matrices{layer.qkv, layer.attn_output};
        if (layer.experts == nullptr) {
            matrices.insert(matrices.end(), {layer.gate_up, layer.down});
        } else {
            const backend::ExpertMatrices& experts = layer.experts->matrices;
            matrices.insert(matrices.end(), {experts.router.get(), experts.gate_up[1].get(),
                                             experts.down[2].get()});
        }
        for (const auto* matrix : matrices) {
            for (const auto& part : static_cast<const CudaLinear*>(matrix)->parts)
                try_part(part, matrix->n_cols);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, CardWeights, testing::Values("e8", "e4", "e8_experts", "gguf"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace etalon::model

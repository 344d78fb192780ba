// SPDX-License-Identifier: Apache-2.0
// The live digest reads the very weights that the kernels of a card multiply: any bit that changes
// there, changes it. Skipped where there is no card.
#include <gtest/gtest.h>
#include <memory>
#include <string>

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
        model_ = GetParam() == "e8"
                     ? tiny::make_e8(tiny::config(), {})
                     : tiny::make_gguf(tiny::config(),
                                       [](const std::string&) { return exact::Format::q8_0; }, {});
        device_ = backend::make_cuda_backend(0);
        transformer_ = std::make_unique<Transformer>(model_->file(), *device_, kCardTokensMax);
        want_ = transformer_->live_digest(kCardNonce);
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
        const std::size_t stride = part.data.size() / n_rows;
        // Behind the columns of a row there is room that belongs to nobody.
        const std::size_t used = part.d.empty() ? stride : static_cast<std::size_t>(n_cols);
        try_bit(part.data, below(n_rows) * stride + below(used), "weights");
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
        for (const auto* matrix : {layer.qkv, layer.attn_output, layer.gate_up, layer.down}) {
            for (const auto& part : static_cast<const CudaLinear*>(matrix)->parts)
                try_part(part, matrix->n_cols);
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Models, CardWeights, testing::Values("e8", "gguf"),
                         [](const auto& test) { return test.param; });

}  // namespace
}  // namespace etalon::model

// SPDX-License-Identifier: Apache-2.0
// Models of random weights: the file of a shape, and the same shape in memory.
#include "weights/synthetic.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "small_models.h"

namespace etalon::weights {
namespace {

constexpr const char* kShape = "smollm2-135m";
constexpr int kLayers = 2;

class Synthetic : public testing::TestWithParam<exact::Format> {};

TEST_P(Synthetic, file_and_memory_have_the_same_tensors) {
    const TemporaryFolder folder;
    const auto path = folder.path() / "shape.safetensors";
    write_synthetic(kShape, GetParam(), kLayers, path);
    const ModelFile file = ModelFile::open(path);  // which checks every number
    const ModelFile memory = synthetic_in_memory(kShape, GetParam(), kLayers);
    EXPECT_EQ(memory.kind(), file.kind());
    EXPECT_EQ(memory.config().name, file.config().name);
    EXPECT_FALSE(memory.config().tied_embeddings);
    EXPECT_EQ(memory.tokenizer().tokens, file.tokenizer().tokens);
    EXPECT_EQ(memory.weights_bytes(), file.weights_bytes());
    EXPECT_EQ(memory.tensors().size(), file.tensors().size());
    EXPECT_TRUE(memory.files().empty());
    for (const Tensor& tensor : file.tensors()) {
        const Tensor& other = memory.tensor(tensor.name, tensor.n_rows, tensor.n_cols);
        EXPECT_EQ(other.format, tensor.format) << tensor.name;
        EXPECT_EQ(other.data.size(), tensor.data.size()) << tensor.name;
        EXPECT_EQ(other.indices.size(), tensor.indices.size()) << tensor.name;
        EXPECT_TRUE(std::ranges::equal(other.scales, tensor.scales)) << tensor.name;
        if (tensor.name.rfind("blk.0.", 0) != 0) continue;
        EXPECT_TRUE(std::ranges::equal(other.data, tensor.data)) << tensor.name;
        EXPECT_TRUE(std::ranges::equal(other.indices, tensor.indices)) << tensor.name;
    }
    check_finite(memory.tensors(), "memory");
}

TEST_P(Synthetic, layers_share_their_bytes_in_memory_alone) {
    const TemporaryFolder folder;
    const auto path = folder.path() / "shape.safetensors";
    write_synthetic(kShape, GetParam(), kLayers, path);
    const ModelFile file = ModelFile::open(path);
    const ModelFile memory = synthetic_in_memory(kShape, GetParam(), kLayers);
    const auto up = [](const ModelFile& model, int layer) {
        return model.tensor("blk." + std::to_string(layer) + ".ffn_up.weight", 1536, 576).data;
    };
    EXPECT_EQ(up(memory, 0).data(), up(memory, 1).data());
    EXPECT_NE(up(memory, 0).data(), memory.tensor("blk.0.ffn_gate.weight", 1536, 576).data.data());
    EXPECT_FALSE(std::ranges::equal(up(file, 0), up(file, 1)));
    EXPECT_EQ(memory.tensor("output.weight", 49152, 576).format, exact::Format::e8);
    EXPECT_EQ(memory.tensor("blk.1.attn_q.weight", 576, 576).format, GetParam());
}

TEST_P(Synthetic, a_shape_that_is_not_known_is_refused) {
    EXPECT_THROW(synthetic_in_memory("mistral-8b", GetParam(), 1), Error);
    const std::vector<std::string> names = synthetic_names();
    for (const char* name : {"mistral-7b", "nemo-12b", "mistral-small-24b", "mistral-large-2"})
        EXPECT_NE(std::ranges::find(names, name), names.end()) << name;
}

INSTANTIATE_TEST_SUITE_P(Formats, Synthetic, testing::Values(exact::Format::e8, exact::Format::e4),
                         [](const auto& test) {
                             return std::string(exact::format_info(test.param).name);
                         });

/// Mean and deviation of the weights of a matrix of blocks.
std::pair<double, double> moments(const Tensor& tensor) {
    double sum = 0.0;
    double squares = 0.0;
    const std::int64_t n = tensor.n_rows * tensor.n_cols;
    for (std::int64_t b = 0; b < n / exact::kBlock; ++b) {
        const exact::Block32 block =
            exact::decode_block32(tensor.format, tensor.data, static_cast<std::size_t>(b));
        for (std::size_t i = 0; i < exact::kBlock; ++i) {
            const double w = static_cast<double>(block.d) * block.sub_scale[i / 16] * block.q[i] +
                             static_cast<double>(block.m) * block.sub_min[i / 16];
            sum += w;
            squares += w * w;
        }
    }
    const double mean = sum / static_cast<double>(n);
    return {mean, std::sqrt(squares / static_cast<double>(n) - mean * mean)};
}

class SyntheticBlocks : public testing::TestWithParam<exact::Format> {};

TEST_P(SyntheticBlocks, weights_are_as_those_of_models) {
    const ModelFile model = synthetic_in_memory("llama-3.2-1b", GetParam(), 2);
    EXPECT_EQ(model.kind(), FileKind::gguf);
    const bool is_q4_k = GetParam() == exact::Format::q4_k;
    EXPECT_EQ(model.tensor("token_embd.weight", 128256, 2048).format, GetParam());
    EXPECT_EQ(model.tensor("output.weight", 128256, 2048).format,
              is_q4_k ? exact::Format::q6_k : GetParam());
    for (const char* name : {"blk.0.attn_k.weight", "blk.1.attn_v.weight"}) {
        const Tensor& tensor = model.tensor(name, 512, 2048);
        EXPECT_EQ(tensor.format, GetParam()) << name;
        const auto [mean, deviation] = moments(tensor);
        EXPECT_NEAR(mean, 0.0, 3e-4) << name;
        EXPECT_NEAR(deviation, 0.02, 5e-4) << name;
    }
    Tensor head = model.tensor("output.weight", 128256, 2048);
    head.n_rows = 512;
    EXPECT_NEAR(moments(head).second, 0.02, 5e-4);
    EXPECT_EQ(model.tensor("blk.0.attn_k.weight", 512, 2048).data.data(),
              model.tensor("blk.1.attn_k.weight", 512, 2048).data.data());
    check_finite(model.tensors(), "memory");
}

TEST(SyntheticGguf, rows_that_are_no_whole_blocks_are_refused) {
    try {
        synthetic_in_memory(kShape, exact::Format::q4_k, kLayers);
        FAIL() << "576 is no multiple of 256";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::usage);
        EXPECT_STREQ(error.what(), "smollm2-135m has rows of 576 weights, q4_k has blocks of 256");
    }
}

INSTANTIATE_TEST_SUITE_P(Formats, SyntheticBlocks,
                         testing::Values(exact::Format::q8_0, exact::Format::q4_k),
                         [](const auto& test) {
                             return std::string(exact::format_info(test.param).name);
                         });

}  // namespace
}  // namespace etalon::weights

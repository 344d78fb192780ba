// SPDX-License-Identifier: Apache-2.0
// Models of random weights: the file of a shape, and the same shape in memory.
#include "weights/synthetic.h"

#include <algorithm>

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

}  // namespace
}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// The default model's own tokenizer: expected ids come from the package `tokenizers` with the
// model's published pipeline. ETALON_TEST_MODEL names the file; without it the tests are skipped.
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "text/prompt_layout.h"
#include "text/tokenizer.h"
#include "text/tokenizer_file.h"
#include "weights/model_file.h"

namespace etalon::text {
namespace {

using Ids = std::vector<std::int32_t>;

class RealModel : public testing::Test {
  protected:
    void SetUp() override {
        const char* path = std::getenv("ETALON_TEST_MODEL");
        if (path == nullptr) GTEST_SKIP() << "ETALON_TEST_MODEL names no model";
        data_ = weights::ModelFile::open(path).tokenizer();
        if (data_.pretokenizer != Pretokenizer::smollm) GTEST_SKIP() << "another model";
    }
    TokenizerData data_;
};

TEST_F(RealModel, text) {
    const Tokenizer tokenizer(data_);
    const std::string text = "L'État, c'est moi: 2024 😀\n";
    const auto ids = tokenizer.encode(text, {});
    EXPECT_EQ(ids, (Ids{60, 23, 39614, 100, 261, 28, 265, 23,    381, 4752,
                        89, 42, 216,   34,  32,  34, 36,  40303, 218, 198}));
    EXPECT_EQ(tokenizer.decode(ids), text);
}

TEST_F(RealModel, conversation) {
    const Tokenizer tokenizer(data_);
    ASSERT_EQ(layout_of(data_), PromptLayout::chatml);
    const auto ids = encode_conversation(tokenizer, PromptLayout::chatml,
                                         {{Role::user, "What is the capital of Belgium?"}});
    EXPECT_EQ(ids,
              (Ids{1,   9690, 198, 2683,  359,   253,  5356, 5646, 11173, 3365, 3511, 308,  34519,
                   28,  7018, 411, 407,   19712, 8182, 2,    198,  1,     4093, 198,  1780, 314,
                   260, 3575, 282, 17918, 47,    2,    198,  1,    520,   9531, 198}));
    EXPECT_TRUE(tokenizer.ends_generation(2));
}

TEST_F(RealModel, json_of_our_files_comes_back_exactly) {
    EXPECT_TRUE(tokenizer_from_json(tokenizer_to_json(data_), "json") == data_);
}

}  // namespace
}  // namespace etalon::text

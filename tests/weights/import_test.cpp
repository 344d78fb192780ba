// SPDX-License-Identifier: Apache-2.0
// Tensors of an E8 import against the rules IMP-1 to IMP-6, computed here by dense sums from the
// source's weights. ETALON_TEST_MODEL names the source; without it the tests are skipped.
#include "weights/import.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <optional>
#include <unistd.h>
#include <vector>

#include "exact/formats.h"
#include "exact/rotate.h"
#include "weights/model_file.h"

namespace etalon::weights {
namespace {

using Row = std::vector<double>;

class ImportE8 : public testing::Test {
  protected:
    void SetUp() override {
        const char* path = std::getenv("ETALON_TEST_MODEL");
        if (path == nullptr) GTEST_SKIP() << "ETALON_TEST_MODEL names no model";
        destination_ = std::filesystem::temp_directory_path() /
                       ("etalon-import-test-" + std::to_string(getpid()) + ".safetensors");
        import_e8(path, destination_, {});
        source_.emplace(ModelFile::open(path));
        e8_.emplace(ModelFile::open(destination_));
    }
    void TearDown() override { std::filesystem::remove(destination_); }

    Tensor source(const char* name, std::int64_t rows, std::int64_t cols) const {
        return source_->tensor(name, rows, cols);
    }

    /// Row `r` of a tensor of the source.
    static Row row_of(const Tensor& tensor, std::int64_t r) {
        std::vector<float> row(static_cast<std::size_t>(tensor.n_cols));
        const std::size_t bytes = *exact::row_bytes(tensor.format, row.size());
        exact::dequantize_row(tensor.format,
                              tensor.data.subspan(static_cast<std::size_t>(r) * bytes, bytes), row);
        return {row.begin(), row.end()};
    }

    /// IMP-5: row `r` of the imported tensor is `right` to half a step, and its scale is right.
    static void expect_row(const Tensor& tensor, std::int64_t r, const Row& right, bool tiled) {
        float d = 0.0F;
        std::memcpy(&d, tensor.scales.data() + static_cast<std::size_t>(r) * 4, 4);
        double amax = 0.0;
        for (const double value : right)
            amax = std::max(amax, std::abs(value));
        EXPECT_NEAR(static_cast<double>(d), amax / 127.0, 1e-7 * amax);
        const auto k = static_cast<std::size_t>(tensor.n_cols);
        const auto row = static_cast<std::size_t>(r);
        for (std::size_t i = 0; i < k; ++i) {
            const std::size_t place =
                tiled ? (row / 16 * (k / 4) + i / 4) * 64 + row % 16 * 4 + i % 4 : row * k + i;
            const auto q = static_cast<std::int8_t>(tensor.data[place]);
            ASSERT_NEAR(q * static_cast<double>(d), right[i], 0.50001 * static_cast<double>(d))
                << i;
        }
    }

    std::filesystem::path destination_;
    std::optional<ModelFile> source_;
    std::optional<ModelFile> e8_;
};

double hadamard(std::size_t a, std::size_t b) {
    return std::popcount(a & b) % 2 == 0 ? 1.0 : -1.0;
}

/// ROT-7 as dense sums.
Row unrotated(const Row& w) {
    const exact::Rotation rotation = exact::rotation_for(static_cast<int>(w.size()));
    const auto block = static_cast<std::size_t>(rotation.block);
    const auto m = static_cast<std::size_t>(rotation.m);
    Row mixed(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
        for (std::size_t p = 0; p < block; ++p) {
            const std::size_t j = i / block * block + p;
            mixed[i] += hadamard(i % block, p) * w[j] / static_cast<double>(block) *
                        static_cast<double>(exact::rotation_sign(static_cast<int>(j)));
        }
    }
    if (!rotation.dct) return mixed;
    const auto c = exact::dct_table(rotation.m);
    Row out(w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
        for (std::size_t j = 0; j < m; ++j) {
            out[i] += static_cast<double>(c[i / block * m + j]) * mixed[j * block + i % block];
        }
    }
    return out;
}

TEST_F(ImportE8, IMP_rows_and_norms_are_those_of_the_rules) {  // IMP-1 to IMP-6, FMT-16
    const ModelConfig& config = source_->config();
    const std::int64_t dim = config.dim;
    const std::int64_t hidden = config.hidden_dim;
    const std::int64_t kv = std::int64_t{config.n_kv_heads} * config.head_dim;
    const auto pair = [&](const char* name, std::int64_t rows, std::int64_t cols) {
        return std::pair(source_->tensor(name, rows, cols), e8_->tensor(name, rows, cols));
    };
    const auto [gate, gate_e8] = pair("blk.0.ffn_gate.weight", hidden, dim);
    expect_row(gate_e8, 21, unrotated(row_of(gate, 21)), true);  // IMP-1
    const auto [up, up_e8] = pair("blk.0.ffn_up.weight", hidden, dim);
    for (const int r : {0, 1, 2, 3}) {  // IMP-3
        Row row = row_of(up, r);
        for (double& value : row)
            value *= static_cast<double>(exact::rotation_sign(r));
        expect_row(up_e8, r, unrotated(row), true);
    }
    const auto [norm, norm_e8] = pair("output_norm.weight", 1, dim);
    const Row before = row_of(norm, 0);
    const Row after = row_of(norm_e8, 0);
    for (std::size_t i = 0; i < before.size(); ++i) {  // IMP-2
        EXPECT_EQ(after[i],
                  before[i] * static_cast<double>(exact::rotation_sign(static_cast<int>(i))));
    }
    const auto block = static_cast<std::size_t>(exact::head_rotation_for(config.head_dim).block);
    const double norm_of_block = std::sqrt(static_cast<double>(block));
    const auto [v, v_e8] = pair("blk.1.attn_v.weight", kv, dim);
    Row mixed(static_cast<std::size_t>(dim));
    for (std::size_t p = 0; p < block; ++p) {  // IMP-4, row 5 of the first head
        const Row row = row_of(v, static_cast<std::int64_t>(p));
        for (std::size_t i = 0; i < mixed.size(); ++i)
            mixed[i] += hadamard(5, p) * row[i] / norm_of_block;
    }
    expect_row(v_e8, 5, unrotated(mixed), true);
    const std::int64_t q_dim = std::int64_t{config.n_heads} * config.head_dim;
    const auto [o, o_e8] = pair("blk.1.attn_output.weight", dim, q_dim);
    const Row columns = row_of(o, 40);
    Row turned(columns.size());
    for (std::size_t i = 0; i < columns.size(); ++i) {  // IMP-4
        for (std::size_t p = 0; p < block; ++p)
            turned[i] += hadamard(i % block, p) * columns[i / block * block + p] / norm_of_block;
    }
    expect_row(o_e8, 40, turned, true);
    const auto [embedding, embedding_e8] = pair("token_embd.weight", config.vocab_size, dim);
    expect_row(embedding_e8, 100, row_of(embedding, 100), false);  // IMP-6
}

}  // namespace
}  // namespace etalon::weights

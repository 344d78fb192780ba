// SPDX-License-Identifier: Apache-2.0
// Mixtures of experts in every kind of file: the same matrices under the same names, and what is
// refused by name.
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "exact/rotate.h"
#include "small_models.h"
#include "weights/import.h"
#include "weights/internal/etalon_config.h"
#include "weights/internal/hf_config.h"
#include "weights/internal/limits.h"
#include "weights/model_file.h"

namespace etalon::weights {
namespace {

using nlohmann::json;

constexpr const char* kExpertsFile = "experts.gguf";

ModelContents read_experts(const GgufBuilder& gguf) {
    const std::string bytes = gguf.build();
    ModelContents model = read_gguf_model(std::as_bytes(std::span(bytes)), kExpertsFile);
    check_finite(model.tensors, kExpertsFile);
    for (Tensor& tensor : model.tensors)
        tensor.data = {};  // of `bytes`
    return model;
}

std::vector<float> values_of(const Tensor& tensor) {
    std::vector<float> out(static_cast<std::size_t>(tensor.n_rows * tensor.n_cols));
    exact::dequantize_row(tensor.format, tensor.data, out);
    return out;
}

/// Every tensor that the model needs is there with the weights that belong to its name.
void expect_weights(const ModelFile& file) {
    const auto shapes = small_tensors(small_experts_config());
    EXPECT_EQ(file.tensors().size(), shapes.size());
    for (const TensorShape& shape : shapes) {
        const Tensor& tensor = file.tensor(shape.name, shape.n_rows, shape.n_cols);
        EXPECT_EQ(values_of(tensor), small_weights(shape.name, shape.n_rows * shape.n_cols))
            << shape.name;
    }
}

class Experts : public testing::Test {
  protected:
    ModelFile open(const GgufBuilder& gguf) const {
        return ModelFile::open(folder_.write(kExpertsFile, gguf.build()));
    }
    void write_folder(const json& config) const {
        write_hf_texts(folder_);
        folder_.write("config.json", config.dump());
        folder_.write("model.safetensors", safetensors_of(small_hf_tensors("BF16", config_)));
    }
    static void expect_refused_after(const std::function<void(GgufBuilder&)>& change,
                                     std::vector<std::string> parts, bool stacked = false) {
        GgufBuilder gguf = small_gguf(small_experts_config());
        if (stacked) stack_experts(gguf, small_experts_config());
        change(gguf);
        parts.emplace_back(kExpertsFile);
        expect_refused([&] { return read_experts(gguf); }, parts);
    }

    TemporaryFolder folder_;
    ModelConfig config_ = small_experts_config();
};

TEST_F(Experts, gguf_one_by_one_and_stacked) {
    GgufBuilder gguf = small_gguf(config_);
    const ModelFile single = open(gguf);
    EXPECT_EQ(single.config().n_experts, 5);
    EXPECT_EQ(single.config().n_experts_used, 2);
    expect_weights(single);
    stack_experts(gguf, config_);
    expect_weights(open(gguf));
}

TEST_F(Experts, gguf_one_expert_in_three_dimensions) {
    config_.n_experts = config_.n_experts_used = 1;
    GgufBuilder gguf = small_gguf(config_);
    stack_experts(gguf, config_);
    EXPECT_EQ(open(gguf).tensor("blk.1.ffn_up.0.weight", 96, 64).name, "blk.1.ffn_up.0.weight");
}

TEST_F(Experts, a_folder_of_hugging_face) {
    write_folder(small_hf_config(config_));
    const ModelFile file = ModelFile::open(folder_.path());
    EXPECT_EQ(file.config().architecture, "mixtral");
    EXPECT_EQ(file.config().n_experts, 5);
    EXPECT_EQ(file.config().n_experts_used, 2);
    expect_weights(file);
}

TEST_F(Experts, hf_configurations_that_are_refused) {
    const auto refused = [&](const std::function<void(json&)>& change,
                             std::vector<std::string> parts) {
        json config = small_hf_config(config_);
        change(config);
        parts.emplace_back("config.json");
        expect_refused([&] { return read_hf_config(config.dump(), "config.json"); }, parts);
    };
    for (const char* key : {"num_local_experts", "num_experts_per_tok"}) {
        refused([&](json& c) { c.erase(key); }, {key, "is missing"});
        refused([&](json& c) { c[key] = "2"; }, {key, "is no whole number"});
    }
    refused([](json& c) { c["num_local_experts"] = 0; }, {"num_local_experts", "at least 1"});
    refused([](json& c) { c["num_local_experts"] = 257; }, {"experts", "257 is outside of"});
    refused([](json& c) { c["num_experts_per_tok"] = 0; }, {"experts used", "0 is outside of"});
    refused([](json& c) { c["num_experts_per_tok"] = 6; }, {"experts used", "6 is outside of"});
    refused(
        [](json& c) {
            c["num_hidden_layers"] = 1000;
            c["num_local_experts"] = 256;
        },
        {"experts of all layers", "256000 is outside of"});
    refused([](json& c) { c["model_type"] = "mistral"; },
            {"num_local_experts", "not supported for mistral"});
}

TEST_F(Experts, gguf_files_that_are_refused) {
    const auto set = [](const char* key, std::uint32_t value) {
        return [=](GgufBuilder& gguf) { gguf.set(key, GgufBuilder::u32(value)); };
    };
    expect_refused_after(set("llama.expert_count", 257), {"llama.expert_count", "257 is outside"});
    expect_refused_after(set("llama.expert_used_count", 6), {"experts used", "6 is outside of 1"});
    expect_refused_after(set("llama.expert_used_count", 0), {"experts used", "0 is outside of 1"});
    expect_refused_after(set("llama.expert_count", 6),
                         {"tensor blk.0.ffn_gate_inp.weight", "the configuration says 6 x 64"});
    expect_refused_after([](auto& g) { g.erase("llama.expert_count"); },
                         {"experts used", "2 is outside of 0 to 0"});
    expect_refused_after(
        [](auto& g) {
            g.erase("llama.expert_count");
            g.erase("llama.expert_used_count");
        },
        {"tensor blk.0.ffn_gate.weight", "is missing"});
    const std::string router = "blk.1.ffn_gate_inp.weight";
    expect_refused_after([&](auto& g) { g.tensor(router).name += "x"; },
                         {"tensor " + router, "is missing"});
    expect_refused_after(
        [&](auto& g) {
            g.tensor(router).type = 8;  // Q8_0
            g.tensor(router).data.assign(5 * 68, '\0');
        },
        {"tensor " + router, "must be a floating type"});
    expect_refused_after(
        [](auto& g) { g.tensor("blk.0.ffn_up.4.weight").name = "blk.0.ffn_up.5.weight"; },
        {"tensor blk.0.ffn_up.4.weight", "is missing"});
    expect_refused_after(
        [](auto& g) { g.tensor("blk.0.ffn_up.4.weight").data.replace(0, 4, raw(0x7FC00000U)); },
        {"tensor blk.0.ffn_up.4.weight", "row 0 holds infinity or NaN"});
}

TEST_F(Experts, stacks_that_are_refused) {
    const std::string name = "blk.1.ffn_down_exps.weight";
    const auto refused = [&](const std::function<void(GgufBuilder::Item&)>& change,
                             const std::string& reason) {
        expect_refused_after([&](GgufBuilder& gguf) { change(gguf.tensor(name)); },
                             {"tensor " + name, reason}, true);
    };
    refused([](auto& t) { t.dims[2] = 4; }, "dimension 2 is 4, the configuration says 5");
    refused([](auto& t) { t.dims[2] = 257; }, "dimension 2 is 257");
    refused([](auto& t) { t.dims[2] = 0; }, "dimension 2 is 0");
    refused([](auto& t) { t.dims[2] = 200; }, "200 matrices of 24576 bytes do not fit");
    refused([](auto& t) { t.dims = {0x7FFFFFFF, 0x7FFFFFFF, 256}; }, "256 matrices of");
    refused([](auto& t) { t.dims.push_back(2); }, "dimension 3 is 2");
    expect_refused_after(
        [&](auto& g) {
            g.tensor(name).dims = {96, 64 * 5};
        },
        {"tensor " + name, "dimension 2 is 1, the configuration says 5"}, true);
    expect_refused_after(
        [](auto& g) { g.tensor("blk.0.ffn_up_exps.weight").name = "blk.0.attn_q_exps.weight"; },
        {"tensor blk.0.attn_q_exps.weight", "dimension 2 is 5"}, true);
    expect_refused_after(
        [](auto& g) { g.tensor("blk.1.ffn_up_exps.weight").name = "blk.0.ffn_up.0.weight"; },
        {"tensor blk.0.ffn_up.0.weight", "dimension 2 is 5"}, true);
    // Few stacks in a file, more tensors than a model may have.
    expect_refused_after(
        [](GgufBuilder& g) {
            g.set("llama.expert_count", GgufBuilder::u32(256));
            g.tensors.resize(1);  // the embedding
            for (std::uint64_t i = 0; i <= kTensorsMax / 256; ++i)
                g.tensors.push_back({std::to_string(i) + ".ffn_up_exps.weight",
                                     {1, 1, 256},
                                     1,  // F16
                                     std::string(512, '\0')});
        },
        {"ffn_up_exps.weight", "its experts make more than 524288 tensors"}, true);
}

/// Row `r` of an E8 matrix in tiles times the inverse of its scale.
std::vector<float> e8_row(const Tensor& tensor, std::size_t r) {
    float d = 0.0F;
    std::memcpy(&d, tensor.scales.data() + r * sizeof(float), sizeof(float));
    const auto k = static_cast<std::size_t>(tensor.n_cols);
    std::vector<float> out;
    for (std::size_t i = 0; i < k; ++i) {
        const auto code = tensor.data[(r / 16 * (k / 4) + i / 4) * 64 + r % 16 * 4 + i % 4];
        out.push_back(static_cast<float>(static_cast<std::int8_t>(code)) * d);
    }
    return out;
}

TEST_F(Experts, imported_as_the_matrices_of_a_dense_model) {  // IMP-1, IMP-3, IMP-7
    const auto destination = folder_.path() / "e8.safetensors";
    GgufBuilder gguf = small_gguf(config_);
    stack_experts(gguf, config_);
    import_e8(folder_.write(kExpertsFile, gguf.build()), destination, {});
    const ModelFile e8 = ModelFile::open(destination);
    EXPECT_EQ(e8.config().n_experts, 5);
    EXPECT_EQ(e8.config().n_experts_used, 2);
    ModelConfig dense = config_;
    dense.n_experts = dense.n_experts_used = 0;
    GgufBuilder dense_gguf = small_gguf(dense);
    for (int layer = 0; layer < 2; ++layer) {
        for (const char* part : {"ffn_gate", "ffn_up", "ffn_down"}) {
            const std::string stem = "blk." + std::to_string(layer) + "." + part;
            const std::string expert = stem + ".3.weight";
            dense_gguf.tensor(stem + ".weight").data =
                stored(small_weights(expert, 96 * 64), "F32");
        }
    }
    const auto dense_path = folder_.path() / "dense.safetensors";
    import_e8(folder_.write("dense.gguf", dense_gguf.build()), dense_path, {});
    const ModelFile dense_e8 = ModelFile::open(dense_path);
    for (const TensorShape& shape : small_tensors(dense)) {
        if (shape.name.find("blk.1.ffn_") == std::string::npos || shape.is_vector) continue;
        std::string name = shape.name;
        name.insert(name.rfind('.'), ".3");
        const Tensor& want = dense_e8.tensor(shape.name, shape.n_rows, shape.n_cols);
        const Tensor& got = e8.tensor(name, shape.n_rows, shape.n_cols);
        for (std::size_t r = 0; r < 33; ++r)
            EXPECT_EQ(e8_row(got, r), e8_row(want, r)) << name << " row " << r;
    }
    const std::string router = "blk.1.ffn_gate_inp.weight";
    std::vector<float> want = small_weights(router, 5 * 64);
    for (std::size_t i = 0; i < want.size(); ++i)
        want[i] *= exact::rotation_sign(static_cast<int>(i % 64));
    EXPECT_EQ(values_of(e8.tensor(router, 5, 64)), want);
}

TEST_F(Experts, e8_files_that_are_refused) {
    const auto path = folder_.path() / "e8.safetensors";
    import_e8(folder_.write(kExpertsFile, small_gguf(config_).build()), path, {});
    const std::string whole = content_of(path);
    std::uint64_t length = 0;
    std::memcpy(&length, whole.data(), sizeof(length));
    const json header = json::parse(whole.substr(8, length));
    const auto refused = [&](const std::function<void(json&)>& change,
                             std::vector<std::string> parts) {
        json changed = header;
        change(changed);
        const auto broken =
            folder_.write("broken.safetensors", safetensors_of(changed, whole.substr(8 + length)));
        parts.emplace_back("broken.safetensors");
        expect_refused([&] { return ModelFile::open(broken); }, parts);
    };
    const auto with = [&](const char* key, const json& value, std::vector<std::string> parts) {
        json config = json::parse(header.at("__metadata__").at("etalon.config").get<std::string>());
        config[key] = value;
        refused([&](json& h) { h["__metadata__"]["etalon.config"] = config.dump(); },
                std::move(parts));
    };
    with("n_experts", 6, {"tensor blk.0.ffn_gate_inp.weight", "the configuration says 6 x 64"});
    with("n_experts", 257, {"experts", "257 is outside of 0 to 256"});
    with("n_experts", 1LL << 40, {"etalon.config.n_experts", "is out of range"});
    with("n_experts_used", 0, {"experts used", "0 is outside of 1 to 5"});
    with("n_experts_used", -1, {"experts used", "-1 is outside of 1 to 5"});
    const std::string router = "blk.0.ffn_gate_inp.weight";
    refused([&](json& h) { h[router]["shape"] = {5 * 64}; },
            {"tensor " + router, "is 1 x 320, the configuration says 5 x 64"});
    refused(
        [&](json& h) {
            h[router]["shape"] = {5, 8, 8};
        },
        {"tensor " + router, "is neither tiles, lines nor a binary32 vector"});
    refused(
        [&](json& h) {
            h["blk.0.ffn_norm.weight"]["shape"] = {1, 64};
        },
        {"tensor blk.0.ffn_norm.weight", "is neither tiles, lines nor a binary32 vector"});
}

}  // namespace
}  // namespace etalon::weights

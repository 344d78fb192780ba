// SPDX-License-Identifier: Apache-2.0
// Etalon's own files that were changed in one place each.
#include "weights/internal/e8_file.h"

#include <functional>

#include "small_models.h"
#include "weights/import.h"
#include "weights/model_file.h"

namespace etalon::weights {
namespace {

using nlohmann::json;

/// An E8 file as header and data, to change either.
struct Parts {
    json header;
    std::string data;
};

class E8File : public testing::Test {
  protected:
    void SetUp() override {
        const auto source = folder_.write("small.gguf", small_gguf().build());
        import_e8(source, folder_.path() / "e8.safetensors", {});
        const std::string whole = content_of(folder_.path() / "e8.safetensors");
        std::uint64_t length = 0;
        std::memcpy(&length, whole.data(), sizeof(length));
        parts_.header = json::parse(whole.substr(8, length));
        parts_.data = whole.substr(8 + length);
    }

    void expect_refused_after(const std::function<void(Parts&)>& change,
                              std::vector<std::string> parts) const {
        Parts changed = parts_;
        change(changed);
        const auto path =
            folder_.write("broken.safetensors", safetensors_of(changed.header, changed.data));
        parts.emplace_back("broken.safetensors");
        expect_refused([&] { return ModelFile::open(path); }, parts);
    }

    /// Where the bytes of a tensor begin in the data.
    static std::size_t begin_of(const Parts& parts, const std::string& name) {
        return parts.header.at(name).at("data_offsets").at(0).get<std::size_t>();
    }

    TemporaryFolder folder_;
    Parts parts_;
};

TEST_F(E8File, written_and_read) {
    const ModelFile file = ModelFile::open(folder_.path() / "e8.safetensors");
    EXPECT_EQ(file.kind(), FileKind::etalon_e8);
    EXPECT_TRUE(file.rotated());
    EXPECT_EQ(file.config().hidden_dim, 192);
    EXPECT_EQ(file.tokenizer().tokens, text::small_byte_bpe().tokens);
    const Tensor& up = file.tensor("blk.1.ffn_up.weight", 192, 64);
    EXPECT_EQ(up.format, exact::Format::e8);
    EXPECT_EQ(up.scales.size(), 192U * 4);
    EXPECT_EQ(file.tensor("output.weight", 275, 64).data.size(), 288U * 64);  // whole tiles
    EXPECT_EQ(file.metadata().at("source sha256").size(), 64U);
    EXPECT_EQ(file.metadata().at("arithmetic"), "2");
}

TEST_F(E8File, wrong_metadata) {
    const auto meta = [&](const std::string& key, const json& value,
                          const std::vector<std::string>& parts) {
        expect_refused_after([&](Parts& p) { p.header["__metadata__"][key] = value; }, parts);
    };
    for (const char* key : {"etalon.arithmetic", "etalon.config", "etalon.tokenizer"}) {
        expect_refused_after([&](Parts& p) { p.header["__metadata__"].erase(key); },
                             {key, "is missing"});
    }
    meta("etalon.format", "e5", {"etalon.format", "e5 is not known"});
    meta("etalon.arithmetic", "1", {"etalon.arithmetic", "is 1, this program computes 2"});
    meta("etalon.config", "{", {"etalon.config", "is no JSON at byte"});
    meta("etalon.config", "{}", {"etalon.config.architecture", "is missing"});
    meta("etalon.tokenizer", "{}", {"version"});
    json config = json::parse(parts_.header["__metadata__"]["etalon.config"].get<std::string>());
    const auto with = [&](const std::string& key, const json& value,
                          const std::vector<std::string>& parts) {
        json changed = config;
        changed[json::json_pointer(key)] = value;
        meta("etalon.config", changed.dump(), parts);
    };
    with("/dim", "64", {"etalon.config.dim", "is no whole number"});
    with("/dim", 1LL << 40, {"etalon.config.dim", "is out of range"});
    with("/dim", 0, {"width", "0 is outside of 1 to 131072"});
    with("/n_layers", 3, {"tensor blk.2.attn_norm.weight", "is missing"});
    with("/n_layers", 1, {"tensor blk.1.", "is not part of a model"});
    with("/n_heads", 4, {"tensor blk.0.attn_q.weight", "the configuration says 128 x 64"});
    with("/norm_eps", 1e300, {"etalon.config.norm_eps", "is no number that binary32 holds"});
    with("/norm_eps", 0, {"norm epsilon", "is outside of"});
    with("/rope/scaling", "new", {"etalon.config.rope.scaling", "'new' is not known"});
    with("/rope/base", 0.5, {"rope base", "is outside of"});
    with("/rope/frequency_factors", json::array({1}), {"rope frequency factors", "each pair"});
    with("/rope", 1, {"etalon.config.rope", "is no JSON object"});
    with("/vocab_size", 274, {"tokenizer", "has 275 tokens, the embedding has 274 rows"});
}

TEST_F(E8File, wrong_shapes) {
    const std::string name = "blk.0.attn_q.weight";  // 64 x 64: [4, 16, 16, 4]
    const auto shaped = [&](const json& shape, const std::string& reason) {
        expect_refused_after([&](Parts& p) { p.header[name]["shape"] = shape; },
                             {"tensor " + name, reason});
    };
    shaped({64, 64}, "is not in tiles of 16 rows");
    shaped({4, 16, 4, 16}, "is not in tiles of 16 rows");
    shaped({2, 32, 16, 4}, "has 2 tiles, 64 row scales");
    expect_refused_after([&](Parts& p) { p.header["token_embd.weight"]["shape"] = {275 * 64}; },
                         {"tensor token_embd.weight", "is not in plain rows"});
    expect_refused_after([&](Parts& p) { p.header[name]["dtype"] = "U8"; },
                         {"tensor " + name, "is neither int8 tiles nor a binary32 vector"});
    expect_refused_after(
        [&](Parts& p) {
            p.header["x.scale"] = p.header[name + ".scale"];
            p.header.erase(name + ".scale");
        },
        {"tensor " + name, "has no row scales"});
    expect_refused_after(
        [&](Parts& p) {
            p.header["x.scale"] = {{"dtype", "F32"},
                                   {"shape", {1}},
                                   {"data_offsets", {p.data.size(), p.data.size() + 4}}};
            p.data += std::string(4, '\0');
        },
        {"tensor x.scale", "belongs to no int8 matrix"});
}

TEST_F(E8File, wrong_alignment) {
    // One more byte of header moves all data.
    const std::string text = parts_.header.dump();
    const std::string header = text + std::string(64 - (text.size() + 8) % 64 + 1, ' ');
    const auto path = folder_.write("broken.safetensors",
                                    raw(std::uint64_t{header.size()}) + header + parts_.data);
    expect_refused([&] { return ModelFile::open(path); },
                   {"tensor ", "is not aligned to ", "broken.safetensors"});
}

TEST_F(E8File, wrong_numbers) {
    const std::string name = "blk.1.ffn_down.weight";
    const auto put = [&](const std::string& tensor, std::size_t at, const std::string& bytes,
                         const std::string& reason) {
        expect_refused_after(
            [&](Parts& p) { p.data.replace(begin_of(p, tensor) + at, bytes.size(), bytes); },
            {"tensor ", reason});
    };
    put(name, 100, "\x80", "holds -128 or a scale");
    put("token_embd.weight", 274 * 64, "\x80", "holds -128 or a scale");
    for (const std::uint32_t bits : {0x7F800000U, 0x7FC00000U, 0xFF800000U, 0xBF800000U})
        put(name + ".scale", 63 * 4, raw(bits), "row 63 or one near it");
    put("output_norm.weight", 0, raw(0x7FC00000U), "row 0 holds infinity or NaN");
    // -0 would be a second way to write a scale of zero.
    put(name + ".scale", 0, raw(0x80000000U), "row 0 or one near it");
}

TEST_F(E8File, every_cut_is_refused) {
    const std::string whole = safetensors_of(parts_.header, parts_.data);
    for (std::size_t size = 0; size < whole.size(); size += 997) {
        const auto path = folder_.write("cut.safetensors", whole.substr(0, size));
        expect_refused([&] { return ModelFile::open(path); }, {"cut.safetensors"});
    }
}

}  // namespace
}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// Etalon's own files that were changed in one place each.
#include "weights/internal/etalon_file.h"

#include <algorithm>
#include <functional>

#include "small_models.h"
#include "weights/import.h"
#include "weights/model_file.h"

namespace etalon::weights {
namespace {

using nlohmann::json;

/// An Etalon file as header and data, to change either.
struct Parts {
    json header;
    std::string data;
};

class EtalonFile : public testing::Test {
  protected:
    void read_parts() {
        const std::string whole = content_of(path());
        std::uint64_t length = 0;
        std::memcpy(&length, whole.data(), sizeof(length));
        parts_.header = json::parse(whole.substr(8, length));
        parts_.data = whole.substr(8 + length);
    }

    std::filesystem::path path() const { return folder_.path() / "whole.safetensors"; }

    void expect_refused_after(const std::function<void(Parts&)>& change,
                              std::vector<std::string> parts) const {
        Parts changed = parts_;
        change(changed);
        const auto path =
            folder_.write("broken.safetensors", safetensors_of(changed.header, changed.data));
        parts.emplace_back("broken.safetensors");
        expect_refused([&] { return ModelFile::open(path); }, parts);
    }

    /// With other bytes from byte `at` of a tensor on.
    void expect_bytes_refused(const std::string& tensor, std::size_t at, const std::string& bytes,
                              const std::string& reason) const {
        expect_refused_after(
            [&](Parts& p) { p.data.replace(begin_of(p, tensor) + at, bytes.size(), bytes); },
            {"tensor ", reason});
    }

    /// Where the bytes of a tensor begin in the data.
    static std::size_t begin_of(const Parts& parts, const std::string& name) {
        return parts.header.at(name).at("data_offsets").at(0).get<std::size_t>();
    }

    TemporaryFolder folder_;
    Parts parts_;
};

class E8File : public EtalonFile {
  protected:
    void SetUp() override {
        import_e8(folder_.write("small.gguf", small_gguf().build()), path(), {});
        read_parts();
    }
};

/// The bytes of a matrix of an E4 file, by a generator that starts from its name.
std::vector<std::byte> some_bytes(const std::string& name, std::size_t n) {
    std::uint64_t state = 1;
    for (const char c : name)
        state = state * 31 + static_cast<std::uint8_t>(c);
    std::vector<std::byte> out(n);
    for (std::byte& byte : out) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        byte = static_cast<std::byte>((state >> 33) % 255);
        if (byte == std::byte{0x80}) byte = std::byte{1};  // -128 is no E8 weight
    }
    return out;
}

class E4File : public EtalonFile {
  protected:
    /// The small model. Matrices come in two pieces where they have more than 16 rows.
    void SetUp() override {
        ModelConfig config = small_config();
        config.rope.n_dims = config.head_dim;
        std::vector<EtalonWriter::Matrix> matrices{{"output.weight", 275, 64, true}};
        std::vector<EtalonWriter::Vector> vectors;
        for (const TensorShape& shape : small_tensors()) {
            if (shape.is_vector) vectors.push_back({shape.name, shape.n_cols});
            if (shape.is_vector || shape.name == kEmbeddingName) continue;
            matrices.push_back({shape.name, shape.n_rows, shape.n_cols, true, exact::Format::e4});
        }
        matrices.push_back({std::string(kEmbeddingName), 275, 64, false});
        EtalonWriter writer(path(), config, text::small_byte_bpe(), {}, matrices, vectors);
        for (const auto& matrix : matrices) {
            for (std::int64_t row = 0; row < matrix.n_rows; row += kTileRows) {
                const std::int64_t n = std::min(kTileRows, matrix.n_rows - row);
                const bool e4 = matrix.format == exact::Format::e4;
                const std::uint64_t n_lines = e4 ? e4_lines(n, matrix.n_cols) : 0;
                const std::uint64_t n_plain = matrix.tiled
                                                  ? tile_bytes(n, matrix.n_cols)
                                                  : static_cast<std::uint64_t>(n * matrix.n_cols);
                const std::string name = matrix.name + std::to_string(row);
                writer.add_rows(some_bytes(name, e4 ? n_lines * kE4LineBytes : n_plain),
                                std::vector<float>(static_cast<std::size_t>(n), 0.5F),
                                some_bytes(name + ".index", n_lines * kE4LineIndexBytes));
            }
        }
        for (const auto& vector : vectors)
            writer.add_vector(std::vector<float>(static_cast<std::size_t>(vector.size), 1.0F));
        const ImportResult result = writer.finish();
        read_parts();
        EXPECT_EQ(result.bytes, std::filesystem::file_size(path()));
    }
};

TEST_F(E8File, written_and_read) {
    const ModelFile file = ModelFile::open(path());
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
    meta("etalon.format", "q8_0", {"etalon.format", "q8_0 is not known"});
    meta("etalon.format", "e4", {"tensor blk.0.attn_", "is e8, must be e4"});
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
    expect_refused_after([&](Parts& p) { p.header[name]["dtype"] = "BOOL"; },
                         {"tensor " + name, "is neither tiles, lines nor a binary32"});
    expect_refused_after([&](Parts& p) { p.header[name]["dtype"] = "U8"; },
                         {"tensor " + name, "is not in lines of 4 rows"});
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
        {"tensor x.scale", "belongs to no matrix"});
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
    expect_bytes_refused(name, 100, "\x80", "holds -128 or a scale");
    expect_bytes_refused("token_embd.weight", 274 * 64, "\x80", "holds -128 or a scale");
    for (const std::uint32_t bits : {0x7F800000U, 0x7FC00000U, 0xFF800000U, 0xBF800000U})
        expect_bytes_refused(name + ".scale", 63 * 4, raw(bits), "row 63 or one near it");
    expect_bytes_refused("output_norm.weight", 0, raw(0x7FC00000U), "row 0 holds infinity or NaN");
    // -0 would be a second way to write a scale of zero.
    expect_bytes_refused(name + ".scale", 0, raw(0x80000000U), "row 0 or one near it");
}

TEST_F(E8File, every_cut_is_refused) {
    const std::string whole = safetensors_of(parts_.header, parts_.data);
    for (std::size_t size = 0; size < whole.size(); size += 997) {
        const auto path = folder_.write("cut.safetensors", whole.substr(0, size));
        expect_refused([&] { return ModelFile::open(path); }, {"cut.safetensors"});
    }
}

TEST_F(E4File, written_and_read) {
    const ModelFile file = ModelFile::open(path());
    EXPECT_EQ(file.kind(), FileKind::etalon_e4);
    EXPECT_TRUE(file.rotated());
    EXPECT_EQ(parts_.header["__metadata__"]["etalon.format"], "e4");
    EXPECT_EQ(file.tensor("output.weight", 275, 64).format, exact::Format::e8);
    EXPECT_EQ(file.tensor("token_embd.weight", 275, 64).format, exact::Format::e8);
    const Tensor& down = file.tensor("blk.1.ffn_down.weight", 64, 192);
    EXPECT_EQ(down.format, exact::Format::e4);
    EXPECT_EQ(down.data.size(), 64U * 192 / 2);
    EXPECT_EQ(down.indices.size(), 64U * 192 / 32);
    EXPECT_EQ(down.scales.size(), 64U * 4);
    EXPECT_EQ(down.bytes(), 64U * 192 / 2 + 64U * 192 / 32 + 64U * 4);
    // The pieces of 16 rows stand behind each other, of codes and of indices.
    for (std::size_t tile = 0; tile < 4; ++tile) {
        const std::string name = "blk.1.ffn_down.weight" + std::to_string(16 * tile);
        const auto codes = some_bytes(name, 16 * 192 / 2);
        const auto indices = some_bytes(name + ".index", 16 * 192 / 32);
        EXPECT_TRUE(
            std::ranges::equal(down.data.subspan(tile * codes.size(), codes.size()), codes));
        EXPECT_TRUE(std::ranges::equal(down.indices.subspan(tile * indices.size(), indices.size()),
                                       indices));
    }
}

TEST_F(E4File, wrong_formats) {
    const auto meta = [&](const char* key, const char* value, std::vector<std::string> parts) {
        expect_refused_after([&](Parts& p) { p.header["__metadata__"][key] = value; },
                             std::move(parts));
    };
    meta("etalon.format", "e8", {"tensor blk.0.", "is e4, must be e8"});
    // A head in lines: as many bytes as its tiles, of 550 rows.
    expect_refused_after(
        [&](Parts& p) {
            p.header["output.weight"]["dtype"] = "U8";
            p.header["output.weight"]["shape"] = {144, 2, 4, 16};
        },
        {"tensor output.weight", "has 144 groups of rows, 275 row scales"});
}

TEST_F(E4File, wrong_shapes) {
    const std::string name = "blk.0.attn_q.weight";  // 64 x 64: [16, 2, 4, 16]
    const auto shaped = [&](const std::string& tensor, const json& shape,
                            const std::string& reason) {
        expect_refused_after([&](Parts& p) { p.header[tensor]["shape"] = shape; },
                             {"tensor " + name, reason});
    };
    shaped(name, {32, 64}, "is not in lines of 4 rows");
    shaped(name, {16, 2, 16, 4}, "is not in lines of 4 rows");
    shaped(name, {8, 4, 4, 16}, "has 8 groups of rows, 64 row scales");
    shaped(name, {20, 2, 4, 16}, "bytes, its shape needs");
    shaped(name + ".index", {16, 8}, "has no table indices of its shape");
    shaped(name + ".index", {8, 4, 4}, "has no table indices of its shape");
    shaped(name + ".index", {16, 2, 2}, "bytes, its shape needs");
    shaped(name + ".scale", {64, 1}, "has no row scales");
    expect_refused_after([&](Parts& p) { p.header[name + ".index"]["dtype"] = "I8"; },
                         {"tensor " + name, "has no table indices"});
}

TEST_F(E4File, parts_that_are_missing_or_of_nobody) {
    const std::string name = "blk.0.attn_q.weight";
    const auto renamed = [&](const std::string& from, const std::string& to,
                             std::vector<std::string> parts) {
        expect_refused_after(
            [&](Parts& p) {
                p.header[to] = p.header[from];
                p.header.erase(from);
            },
            std::move(parts));
    };
    renamed(name + ".index", "x.index", {"tensor ", "attn_q"});
    renamed(name + ".scale", "x.scale", {"tensor ", "attn_q"});
    renamed(name + ".index", name + ".index.index", {"tensor ", "attn_q"});
    const auto added = [&](const std::string& tensor, const char* dtype) {
        expect_refused_after(
            [&](Parts& p) {
                p.header[tensor] = {
                    {"dtype", dtype},
                    {"shape", {4}},
                    {"data_offsets", {p.data.size(), p.data.size() + (*dtype == 'F' ? 16 : 4)}}};
                p.data += std::string(*dtype == 'F' ? 16 : 4, '\0');
            },
            {"tensor " + tensor, "belongs to no matrix"});
    };
    added("x.index", "U8");
    added("x.scale", "F32");
    added(".index", "U8");
    added("output.weight.index", "U8");       // of an E8 matrix
    added("output_norm.weight.index", "U8");  // of a vector
    added(name + ".index.index", "U8");       // of indices
    added(name + ".index.scale", "F32");
    added(name + ".scale.index", "U8");
}

TEST_F(E4File, wrong_alignment) {
    // 275 floats are no whole number of 16 bytes: what comes behind them is not aligned.
    const std::string matrix = "blk.0.attn_q.weight";
    const std::string floats = "token_embd.weight.scale";
    const std::vector<std::vector<std::string>> orders{{floats, matrix},
                                                       {matrix, floats, matrix + ".index"}};
    for (std::vector<std::string> names : orders) {
        const std::string wrong = names.back();
        Parts moved{parts_.header, ""};
        for (const auto& [name, entry] : parts_.header.items()) {
            if (name != "__metadata__" && std::ranges::find(names, name) == names.end())
                names.push_back(name);
        }
        for (const std::string& name : names) {
            const auto offsets =
                parts_.header[name]["data_offsets"].get<std::vector<std::size_t>>();
            moved.header[name]["data_offsets"] = {moved.data.size(),
                                                  moved.data.size() + offsets[1] - offsets[0]};
            moved.data += parts_.data.substr(offsets[0], offsets[1] - offsets[0]);
        }
        const auto path =
            folder_.write("moved.safetensors", safetensors_of(moved.header, moved.data));
        expect_refused([&] { return ModelFile::open(path); },
                       {"tensor " + wrong + ": is not aligned to 16", "moved.safetensors"});
    }
}

TEST_F(E4File, wrong_numbers) {
    const std::string name = "blk.1.ffn_down.weight";
    for (const std::uint32_t bits : {0x7F800000U, 0x7FC00000U, 0xFF800000U, 0xBF800000U})
        expect_bytes_refused(name + ".scale", 63 * 4, raw(bits),
                             "row 63 has a scale that is negative or not");
    expect_bytes_refused(name + ".scale", 0, raw(0x80000000U),
                         "row 0 has a scale that is negative");
    expect_bytes_refused("output.weight", 100, "\x80", "holds -128 or a scale");
    // Every byte of codes and of indices is a weight.
    Parts all = parts_;
    for (const std::string& tensor : {name, name + ".index"}) {
        for (int i = 0; i < 256; ++i)
            all.data[begin_of(all, tensor) + static_cast<std::size_t>(i)] = static_cast<char>(i);
    }
    const auto path = folder_.write("bytes.safetensors", safetensors_of(all.header, all.data));
    EXPECT_EQ(ModelFile::open(path).kind(), FileKind::etalon_e4);
}

TEST_F(E4File, every_cut_is_refused) {
    const std::string whole = safetensors_of(parts_.header, parts_.data);
    for (std::size_t size = 0; size < whole.size(); size += 997) {
        const auto path = folder_.write("cut.safetensors", whole.substr(0, size));
        expect_refused([&] { return ModelFile::open(path); }, {"cut.safetensors"});
    }
}

}  // namespace
}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// Import of the small model from every kind of source: the same weights give the same tensors, and
// the same source the same bytes, whatever the threads, the folder and the files it is cut into.
#include "base/sha256.h"
#include "small_models.h"
#include "weights/import.h"
#include "weights/model_file.h"

namespace etalon::weights {
namespace {

namespace fs = std::filesystem;

std::string hash_of(const std::string& bytes) {
    Sha256 hash;
    hash.update(std::as_bytes(std::span(bytes)));
    return to_hex(hash.finish());
}

/// Imports, checks that the printed hash is the file's, and removes the file.
std::string imported_hash(const fs::path& source, int n_threads = 1) {
    const TemporaryFolder folder;
    const fs::path destination = folder.path() / "out.safetensors";
    ImportOptions options;
    options.n_threads = n_threads;
    const ImportResult result = import_e8(source, destination, options);
    const std::string bytes = content_of(destination);
    EXPECT_EQ(result.sha256, hash_of(bytes));
    EXPECT_EQ(result.bytes, bytes.size());
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);  // nothing beside it
    return result.sha256;
}

/// All bytes of the tensors of the import, with their names.
std::string imported_tensors(const fs::path& source) {
    const TemporaryFolder folder;
    const fs::path destination = folder.path() / "out.safetensors";
    import_e8(source, destination, {});
    const ModelFile file = ModelFile::open(destination);
    std::string out;
    for (const Tensor& tensor : file.tensors()) {
        out += tensor.name;
        for (const auto bytes : {tensor.data, tensor.scales})
            out.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    return hash_of(out);
}

TEST(ImportSource, IMP_threads_and_folders_change_no_byte) {
    const TemporaryFolder a;
    const TemporaryFolder b;
    const std::string bytes = small_gguf().build();
    const auto gguf = a.write("small.gguf", bytes);
    const std::string expected = imported_hash(gguf);
    for (const int n_threads : {2, 3, 8})
        EXPECT_EQ(imported_hash(gguf, n_threads), expected) << n_threads;
    EXPECT_EQ(imported_hash(b.write("another name.gguf", bytes)), expected);
    write_hf_texts(a);
    write_shards(a, "BF16");
    const std::string sharded = imported_hash(a.path());
    for (const int n_threads : {2, 3})
        EXPECT_EQ(imported_hash(a.path(), n_threads), sharded) << n_threads;
    write_hf_texts(b);
    write_shards(b, "BF16");
    EXPECT_EQ(imported_hash(b.path()), sharded);
}

TEST(ImportSource, IMP_equal_weights_give_equal_tensors) {
    std::vector<std::string> hashes;
    for (const char* dtype : {"F32", "F16", "BF16"}) {
        const TemporaryFolder single;
        write_hf_texts(single);
        single.write("model.safetensors", safetensors_of(small_hf_tensors(dtype)));
        hashes.push_back(imported_tensors(single.path()));
        const TemporaryFolder sharded;
        write_hf_texts(sharded);
        write_shards(sharded, dtype);
        hashes.push_back(imported_tensors(sharded.path()));
    }
    for (const std::uint32_t type : {0U, 1U, 30U}) {  // f32, f16, bf16
        const TemporaryFolder folder;
        GgufBuilder gguf = small_gguf();
        for (auto& item : gguf.tensors) {
            const auto count = static_cast<std::int64_t>(item.data.size() / 4);
            item.type = type;
            item.data = stored(small_weights(item.name, count),
                               type == 0 ? "F32" : (type == 1 ? "F16" : "BF16"));
        }
        hashes.push_back(imported_tensors(folder.write("small.gguf", gguf.build())));
    }
    for (const auto& hash : hashes)
        EXPECT_EQ(hash, hashes.front());
}

TEST(ImportSource, IMP_hashes_of_the_source_are_recorded_in_order) {
    const TemporaryFolder folder;
    write_hf_texts(folder);
    write_shards(folder, "F16");
    import_e8(folder.path(), folder.path() / "out.safetensors", {});
    const ModelFile file = ModelFile::open(folder.path() / "out.safetensors");
    const auto hash = [&](const char* name) { return hash_of(content_of(folder.path() / name)); };
    EXPECT_EQ(file.metadata().at("source sha256"), hash("model-00001-of-00002.safetensors") + " " +
                                                       hash("model-00002-of-00002.safetensors"));
    EXPECT_EQ(file.config().rope.pairing, exact::RopePairing::halves);
}

TEST(ImportSource, progress_ends_at_its_total) {
    const TemporaryFolder folder;
    const auto source = folder.write("small.gguf", small_gguf().build());
    std::uint64_t last = 0;
    std::uint64_t total = 0;
    ImportOptions options;
    options.progress = [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
        EXPECT_GE(done_bytes, last);
        last = done_bytes;
        total = total_bytes;
    };
    import_e8(source, folder.path() / "out.safetensors", options);
    EXPECT_EQ(last, total);
    EXPECT_GT(total, 0U);
}

TEST(ImportSource, what_cannot_be_imported) {
    const TemporaryFolder folder;
    const auto source = folder.write("small.gguf", small_gguf().build());
    const auto destination = folder.path() / "out.safetensors";
    import_e8(source, destination, {});
    try {
        import_e8(source, destination, {});
        FAIL() << "an existing file was replaced";
    } catch (const Error& error) {
        EXPECT_EQ(error.code(), ExitCode::failure);
        EXPECT_NE(error.message().find("exists already"), std::string::npos);
    }
    const auto second = folder.path() / "second.safetensors";
    expect_refused([&] { return import_e8(destination, second, {}); },
                   {"out.safetensors", "is an Etalon file already"});
    // A vocabulary of which no tokenizer can be made.
    auto data = text::small_byte_bpe();
    data.merges.emplace_back("q", "q");
    GgufBuilder gguf = small_gguf();
    add_gguf_tokenizer(gguf, data);
    const auto broken = folder.write("broken.gguf", gguf.build());
    expect_refused([&] { return import_e8(broken, second, {}); },
                   {"tokenizer merge 10", "'qq' is no token", "broken.gguf"});
    data = text::small_byte_bpe();
    data.tokens[270] = "\xFF";
    add_gguf_tokenizer(gguf, data);
    folder.write("broken.gguf", gguf.build());
    expect_refused([&] { return import_e8(broken, second, {}); },
                   {"tokenizer token 270", "is not UTF-8", "broken.gguf"});
    EXPECT_FALSE(fs::exists(second));
}

}  // namespace
}  // namespace etalon::weights

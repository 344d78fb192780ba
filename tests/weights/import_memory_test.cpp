// SPDX-License-Identifier: Apache-2.0
// Import keeps a small footprint whatever the size of the model: pages of the source are let go of
// once they are read, and what is written is not kept.
#include <cstdint>
#include <fstream>
#include <string>

#include "small_models.h"
#include "weights/import.h"

namespace etalon::weights {
namespace {

namespace fs = std::filesystem;

/// The most memory that this process has had resident so far, mapped files included.
std::uint64_t resident_bytes_max() {
    std::ifstream status("/proc/self/status");
    for (std::string word; status >> word;) {
        if (word != "VmHWM:") continue;
        std::uint64_t kib = 0;
        status >> kib;
        return kib * 1024;
    }
    ADD_FAILURE() << "no VmHWM in /proc/self/status";
    return 0;
}

/// A folder of Hugging Face with weights of zero, which take no room on the disk.
std::uint64_t write_sparse_model(const TemporaryFolder& folder, ModelConfig config) {
    write_hf_texts(folder);
    nlohmann::json json = small_hf_config();
    json["hidden_size"] = config.dim;
    json["intermediate_size"] = config.hidden_dim;
    json["num_attention_heads"] = config.n_heads;
    json["num_key_value_heads"] = config.n_kv_heads;
    json["head_dim"] = config.head_dim;
    folder.write("config.json", json.dump());
    nlohmann::json header;
    std::uint64_t end = 0;
    for (const TensorShape& shape : model_tensors(config)) {
        if (shape.is_optional) continue;
        const auto bytes = static_cast<std::uint64_t>(shape.n_rows * shape.n_cols) * 2;
        const auto dims = shape.is_vector ? nlohmann::json::array({shape.n_cols})
                                          : nlohmann::json::array({shape.n_rows, shape.n_cols});
        header[hf_name(shape.name)] = {
            {"dtype", "BF16"}, {"shape", dims}, {"data_offsets", {end, end + bytes}}};
        end += bytes;
    }
    const auto path = folder.write("model.safetensors", safetensors_of(header, ""));
    fs::resize_file(path, fs::file_size(path) + end);
    return end;
}

TEST(ImportMemory, stays_far_below_the_size_of_the_model) {
    const TemporaryFolder folder;
    ModelConfig config = small_config();
    config.dim = 4096;
    config.hidden_dim = 16384;
    config.n_heads = 32;
    config.n_kv_heads = 8;
    config.head_dim = 128;
    const std::uint64_t source_bytes = write_sparse_model(folder, config);
    ASSERT_GT(source_bytes, std::uint64_t{900} << 20);
    ImportOptions options;
    options.n_threads = 2;
    import_e8(folder.path(), folder.path() / "out.safetensors", options);
    // 256 MiB between two pauses of the check for finite weights, and as much for all else.
    EXPECT_LT(resident_bytes_max(), std::uint64_t{512} << 20);
}

}  // namespace
}  // namespace etalon::weights

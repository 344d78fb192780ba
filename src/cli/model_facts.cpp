// SPDX-License-Identifier: Apache-2.0
#include "cli/model_facts.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <system_error>

#include "cli/machine.h"

#include "exact/formats.h"

namespace etalon::cli {

const char* kind_name(weights::FileKind kind) {
    switch (kind) {
        case weights::FileKind::gguf:
            return "gguf";
        case weights::FileKind::safetensors:
            return "safetensors";
        case weights::FileKind::etalon_e8:
            return "etalon e8";
        case weights::FileKind::etalon_e4:
            return "etalon e4";
    }
    return "";
}

std::uint64_t parameter_count(const weights::ModelFile& file) {
    std::uint64_t count = 0;
    for (const weights::Tensor& tensor : file.tensors()) {
        count +=
            static_cast<std::uint64_t>(tensor.n_rows) * static_cast<std::uint64_t>(tensor.n_cols);
    }
    return count;
}

std::string formats_text(const weights::ModelFile& file) {
    std::map<exact::Format, int> counts;
    for (const weights::Tensor& tensor : file.tensors())
        ++counts[tensor.format];
    std::string text;
    for (const auto& [format, count] : counts) {
        if (!text.empty()) text += ", ";
        text += fmt::format("{} {}", exact::format_info(format).name, count);
    }
    return text;
}

std::vector<std::filesystem::path> model_candidates() {
    std::vector<std::filesystem::path> candidates;
    std::error_code error;
    const auto folder =
        std::filesystem::directory_iterator(default_model_path().parent_path(), error);
    for (const std::filesystem::directory_entry& entry : folder) {
        const std::filesystem::path kind = entry.path().extension();
        const bool is_folder = entry.is_directory(error);
        if (is_folder || kind == ".gguf" || kind == ".safetensors") {
            candidates.push_back(entry.path());
        }
    }
    std::sort(candidates.begin(), candidates.end());
    return candidates;
}

}  // namespace etalon::cli

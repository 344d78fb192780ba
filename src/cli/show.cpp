// SPDX-License-Identifier: Apache-2.0
// `etalon show MODEL`: what a model file is.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/model_facts.h"
#include "cli/model_licence.h"
#include "cli/output.h"

#include "base/error.h"
#include "text/prompt_layout.h"
#include "text/tokenizer_file.h"
#include "weights/model_file.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

struct ShowOptions {
    std::string model;
    bool tensors = false;
    bool json = false;
};

const char* scaling_name(exact::RopeScaling scaling) {
    switch (scaling) {
        case exact::RopeScaling::none:
            return "none";
        case exact::RopeScaling::linear:
            return "linear";
        case exact::RopeScaling::llama3:
            return "llama3";
        case exact::RopeScaling::yarn:
            return "yarn";
    }
    return "";
}

/// The double of the fewest digits that stand for `value`: 1e-05, not 9.999999747378752e-06.
double shortest(float value) {
    return std::stod(fmt::format("{}", value));
}

ordered_json config_json(const weights::ModelConfig& config) {
    return {{"dim", config.dim},
            {"n_layers", config.n_layers},
            {"n_heads", config.n_heads},
            {"n_kv_heads", config.n_kv_heads},
            {"head_dim", config.head_dim},
            {"hidden_dim", config.hidden_dim},
            {"n_experts", config.n_experts},
            {"n_experts_used", config.n_experts_used},
            {"vocab_size", config.vocab_size},
            {"context_length", config.context_length},
            {"sliding_window", config.sliding_window},
            {"norm_eps", shortest(config.norm_eps)},
            {"tied_embeddings", config.tied_embeddings},
            {"rope_base", shortest(config.rope.base)},
            {"rope_scaling", scaling_name(config.rope.scaling)},
            {"rope_factor", shortest(config.rope.factor)}};
}

ordered_json tokenizer_json(const text::TokenizerData& data) {
    ordered_json json{{"kind", text::tokenizer_kind_name(data.kind)},
                      {"pretokenizer", nullptr},
                      {"vocab_size", data.tokens.size()},
                      {"merges", data.merges.size()},
                      {"bos", data.bos},
                      {"eos", data.eos},
                      {"add_bos", data.add_bos},
                      {"prompt_layout", nullptr}};
    if (data.kind == text::TokenizerKind::byte_bpe) {
        json["pretokenizer"] = text::pretokenizer_name(data.pretokenizer);
    }
    if (const auto layout = text::layout_of(data)) {
        json["prompt_layout"] = text::layout_name(*layout);
    }
    return json;
}

ordered_json to_json(const weights::ModelFile& file, bool with_tensors) {
    const std::uint64_t parameters = parameter_count(file);
    ordered_json json{{"path", file.path().string()},
                      {"kind", kind_name(file.kind())},
                      {"architecture", file.config().architecture},
                      {"name", file.config().name},
                      {"licence", licence_of(file)},
                      {"parameters", parameters},
                      {"weights_bytes", file.weights_bytes()},
                      {"bytes_per_weight",
                       static_cast<double>(file.weights_bytes()) / static_cast<double>(parameters)},
                      {"formats", formats_text(file)},
                      {"rotated", file.rotated()},
                      {"config", config_json(file.config())},
                      {"tokenizer", tokenizer_json(file.tokenizer())},
                      {"metadata", file.metadata()}};
    if (!with_tensors) return json;
    json["tensors"] = ordered_json::array();
    for (const weights::Tensor& tensor : file.tensors()) {
        json["tensors"].push_back({{"name", tensor.name},
                                   {"format", exact::format_info(tensor.format).name},
                                   {"rows", tensor.n_rows},
                                   {"cols", tensor.n_cols},
                                   {"bytes", tensor.bytes()}});
    }
    return json;
}

void print_config(const weights::ModelConfig& config) {
    print_field("context", count_text(static_cast<std::uint64_t>(config.context_length)));
    if (config.sliding_window > 0) {
        print_field("sliding window",
                    count_text(static_cast<std::uint64_t>(config.sliding_window)));
    }
    print_field("layers", fmt::format("{}", config.n_layers));
    print_field("heads", fmt::format("{} (KV {}) of {}", config.n_heads, config.n_kv_heads,
                                     config.head_dim));
    print_field("width", fmt::format("{}, feed-forward {}", config.dim, config.hidden_dim));
    if (config.n_experts > 0) {
        print_field("experts",
                    fmt::format("{}, a token uses {}", config.n_experts, config.n_experts_used));
    }
    print_field("rope", fmt::format("base {}, scaling {}", config.rope.base,
                                    scaling_name(config.rope.scaling)));
    print_field("head", config.tied_embeddings ? "tied to the embeddings" : "its own");
}

void print_tokenizer(const text::TokenizerData& data) {
    std::string kind(text::tokenizer_kind_name(data.kind));
    if (data.kind == text::TokenizerKind::byte_bpe) {
        kind += fmt::format(", pre-tokenizer {}", text::pretokenizer_name(data.pretokenizer));
    }
    print_field("tokenizer", fmt::format("{}, {} tokens", kind, count_text(data.tokens.size())));
    const auto layout = text::layout_of(data);
    print_field("prompt layout", layout ? text::layout_name(*layout) : "none that is known");
}

void print_plain(const weights::ModelFile& file, bool with_tensors) {
    const std::uint64_t parameters = parameter_count(file);
    const auto per_weight =
        static_cast<double>(file.weights_bytes()) / static_cast<double>(parameters);
    print_field("file", file.path().string());
    print_field("kind", kind_name(file.kind()));
    print_field("architecture", file.config().architecture);
    print_field("name", file.config().name);
    const std::string licence = licence_of(file);
    print_field("licence", licence.empty() ? "not stated in the file" : licence);
    print_field("parameters", count_text(parameters));
    print_field("weights", fmt::format("{}, {:.3f} bytes a weight",
                                       bytes_text(file.weights_bytes()), per_weight));
    print_field("formats", formats_text(file));
    print_config(file.config());
    print_tokenizer(file.tokenizer());
    for (const auto& [key, value] : file.metadata())
        print_field("  " + key, value);
    if (!with_tensors) return;
    for (const weights::Tensor& tensor : file.tensors()) {
        print(fmt::format("  {:<32} {:<7} {:>7} x {:<6} {}\n", printable(tensor.name),
                          exact::format_info(tensor.format).name, tensor.n_rows, tensor.n_cols,
                          bytes_text(tensor.bytes())));
    }
}

void show(const ShowOptions& options) {
    const auto file = weights::ModelFile::open(options.model);
    if (options.json) {
        print_json(to_json(file, options.tensors));
    } else {
        print_plain(file, options.tensors);
    }
}

}  // namespace

void add_show(CLI::App& app) {
    CLI::App* command = app.add_subcommand("show", "say what a model file is");
    const auto options = std::make_shared<ShowOptions>();
    command->add_option("MODEL", options->model, "model file or folder")->required();
    command->add_flag("--tensors", options->tensors, "list the tensors");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { show(*options); });
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
// The bill of materials of a model, CycloneDX 1.7. What a file says of itself is a claim and stands
// as one; what was hashed here has its hash.
#include "cli/bill_of_materials.h"

#include <array>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "cli/model_facts.h"
#include "cli/model_licence.h"
#include "cli/program_parts.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/sha256.h"
#include "weights/model_hash.h"
#include "weights/signature.h"
#include "worker/sandbox.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr const char* kModelRef = "model";
constexpr const char* kProgramRef = "program";

/// Identifiers of SPDX for what model files call their licence; others keep their own name.
constexpr std::array<std::pair<std::string_view, const char*>, 6> kSpdx{{
    {"apache-2.0", "Apache-2.0"},
    {"cc-by-4.0", "CC-BY-4.0"},
    {"cc-by-nc-4.0", "CC-BY-NC-4.0"},
    {"cc-by-sa-4.0", "CC-BY-SA-4.0"},
    {"mit", "MIT"},
    {"openrail", "OpenRAIL"},
}};

ordered_json hashes_json(const std::string& sha256) {
    return ordered_json::array({{{"alg", "SHA-256"}, {"content", sha256}}});
}

/// Names and values in the order given.
class Properties {
  public:
    Properties& add(const char* name, const std::string& value) {
        list_.push_back({{"name", fmt::format("etalon:{}", name)}, {"value", printable(value)}});
        return *this;
    }
    ordered_json take() { return std::move(list_); }

  private:
    ordered_json list_ = ordered_json::array();
};

ordered_json licences_json(const std::string& stated) {
    std::string lower = stated;
    for (char& c : lower)
        if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    ordered_json licence{{"name", printable(stated)}};
    for (const auto& [name, id] : kSpdx)
        if (lower == name) licence = {{"id", id}};
    licence["acknowledgement"] = "declared";  // by whoever made the file
    return ordered_json::array({{{"license", std::move(licence)}}});
}

ordered_json files_json(const FoundModel& found) {
    ordered_json files = ordered_json::array();
    for (const auto& [name, file] : found.files) {
        files.push_back(
            {{"type", "file"},
             {"bom-ref", fmt::format("file:{}", printable(name))},
             {"name", printable(name)},
             {"hashes", hashes_json(file.sha256)},
             {"properties", Properties().add("bytes", std::to_string(file.bytes)).take()}});
    }
    return files;
}

void add_found(Properties& properties, const FoundModel& found) {
    const weights::ModelConfig& config = found.file.config();
    properties.add("file-kind", kind_name(found.file.kind()))
        .add("quantisation", formats_text(found.file))
        .add("parameters", std::to_string(parameter_count(found.file)))
        .add("weights-bytes", std::to_string(found.file.weights_bytes()))
        .add("layers", std::to_string(config.n_layers))
        .add("heads", std::to_string(config.n_heads))
        .add("kv-heads", std::to_string(config.n_kv_heads))
        .add("head-dim", std::to_string(config.head_dim))
        .add("width", std::to_string(config.dim))
        .add("feed-forward", std::to_string(config.hidden_dim))
        .add("file-name-of-model", config.name);
    if (config.n_experts > 0) {
        properties.add("experts", std::to_string(config.n_experts))
            .add("experts-used", std::to_string(config.n_experts_used));
    }
}

ordered_json model_json(const ledger::ModelLoad& recorded, const FoundModel* found,
                        const std::string& signature) {
    const std::string architecture =
        found != nullptr ? found->file.config().architecture : recorded.architecture;
    ordered_json model{{"type", "machine-learning-model"},
                       {"bom-ref", kModelRef},
                       {"name", printable(recorded.name)}};
    // Of several files the hash is that of a list, which is no file's.
    if (found != nullptr && found->n_weights == 1) model["hashes"] = hashes_json(found->sha256);
    const std::string licence = found != nullptr ? licence_of(found->file) : "";
    if (!licence.empty()) model["licenses"] = licences_json(licence);
    model["modelCard"] = {{"modelParameters",
                           {{"task", "text-generation"},
                            {"architectureFamily", "transformer"},
                            {"modelArchitecture", printable(architecture)},
                            {"inputs", ordered_json::array({{{"format", "text"}}})},
                            {"outputs", ordered_json::array({{{"format", "text"}}})}}}};
    if (found != nullptr) model["components"] = files_json(*found);
    Properties properties;
    properties.add("model-sha256", recorded.model)
        .add("model-file", found != nullptr
                               ? "was hashed on the exporting machine and has this hash"
                               : "is not on the exporting machine: its files, quantisation and "
                                 "licence are not known here")
        .add("signature", signature)
        .add("licence", licence.empty() ? "not stated in the file" : licence)
        .add("recorded-architecture", recorded.architecture)
        .add("recorded-arithmetic", std::to_string(recorded.arithmetic))
        .add("recorded-backend", recorded.backend)
        .add("recorded-context-tokens", std::to_string(recorded.context_tokens))
        .add("recorded-vocab-size", std::to_string(recorded.vocab_size));
    if (found != nullptr) add_found(properties, *found);
    model["properties"] = properties.take();
    return model;
}

ordered_json part_json(const ProgramPart& part, const char* type, const std::string& ref) {
    ordered_json json{{"type", type}, {"bom-ref", ref}, {"name", printable(part.name)}};
    if (!part.version.empty()) json["version"] = printable(part.version);
    if (!part.sha256.empty()) json["hashes"] = hashes_json(part.sha256);
    json["properties"] =
        Properties()
            .add("file", part.path.empty() ? "compiled into the program" : part.path)
            .take();
    return json;
}

/// A name for the bill that no other one has: version 8 of RFC 9562 over what tells it apart.
std::string serial_number(const ledger::ModelLoad& recorded, std::uint64_t time_us) {
    const std::string seed = fmt::format("{}\n{}\n", recorded.model, time_us);
    const std::string hex = to_hex(sha256(std::as_bytes(std::span(seed))));
    return fmt::format("urn:uuid:{}-{}-8{}-8{}-{}", hex.substr(0, 8), hex.substr(8, 4),
                       hex.substr(12, 3), hex.substr(15, 3), hex.substr(18, 12));
}

}  // namespace

FoundModel find_materials(const std::filesystem::path& model) {
    FoundModel found{weights::ModelFile::open(model), "", {}, 0};
    const auto hashes = weights::weight_hashes(found.file);
    found.sha256 = weights::model_hash(hashes);
    found.n_weights = hashes.size();
    for (const MappedFile& mapped : found.file.files()) {
        const std::string name = mapped.path().filename().string();
        found.files[name] = {mapped.bytes().size(), hashes.at(name)};
    }
    // A folder's, or those beside a file of shards; a model that is one file has none.
    for (const std::filesystem::path& path : worker::readable_files(model)) {
        const std::string name = path.filename().string();
        const bool is_other = found.files.count(name) == 0 &&
                              !std::filesystem::is_directory(path) &&
                              path != weights::signature_path(model);
        if (!is_other) continue;
        const MappedFile mapped(path);
        found.files[name] = {mapped.bytes().size(), to_hex(sha256(mapped.bytes()))};
    }
    return found;
}

std::string bill_of_materials(const ledger::ModelLoad& recorded, const FoundModel* found,
                              const std::string& signature, std::uint64_t time_us) {
    const ProgramPart program = this_program();
    ordered_json components = ordered_json::array();
    components.push_back(part_json(program, "application", kProgramRef));
    ordered_json refs = ordered_json::array();
    for (const ProgramPart& part : this_programs_libraries()) {
        refs.push_back(fmt::format("library:{}", printable(part.name)));
        components.push_back(part_json(part, "library", refs.back()));
    }
    const std::string time = fmt::format(
        "{:%Y-%m-%dT%H:%M:%S}Z", fmt::gmtime(static_cast<std::time_t>(time_us / kSecondUs)));
    const ordered_json bill{
        {"$schema", "http://cyclonedx.org/schema/bom-1.7.schema.json"},
        {"bomFormat", "CycloneDX"},
        {"specVersion", "1.7"},
        {"serialNumber", serial_number(recorded, time_us)},
        {"version", 1},
        {"metadata",
         {{"timestamp", time},
          {"tools",
           {{"components",
             ordered_json::array(
                 {{{"type", "application"}, {"name", "etalon"}, {"version", program.version}}})}}},
          {"component", model_json(recorded, found, signature)}}},
        {"components", std::move(components)},
        {"dependencies", ordered_json::array({{{"ref", kProgramRef}, {"dependsOn", refs}}})}};
    return bill.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace etalon::cli

// SPDX-License-Identifier: Apache-2.0
#include "cli/evidence.h"

#include <cstdio>
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <sys/utsname.h>

#include "cli/ledger_place.h"
#include "cli/model_facts.h"
#include "cli/sandbox_report.h"

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "base/thread_pool.h"
#include "ledger/bundle.h"
#include "ledger/run_evidence.h"
#include "serve/config.h"
#include "weights/signature.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

constexpr std::size_t kSignatureBytesMax = std::size_t{40} << 20;  // as weights reads them

/// What the kernel enforces here on a process that closes the sandbox as a worker does.
ordered_json probe_machine() {
    ordered_json json{{"time_us", unix_time_us()}, {"program", "etalon " ETALON_VERSION}};
    utsname kernel{};
    if (::uname(&kernel) == 0) {
        json["kernel"] = fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine);
    }
    try {
        json["probe"] = to_json(worker::probe_sandbox());
    } catch (const Error& error) {
        json["probe"] = nullptr;
        json["problem"] = printable(error.message(), 1000);
    }
    return json;
}

std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t begin = 0; begin < text.size();) {
        const std::size_t end = std::min(text.find('\n', begin), text.size());
        lines.push_back(printable(std::string_view(text).substr(begin, end - begin), 1000));
        begin = end + 1;
    }
    return lines;
}

}  // namespace

Evidence::Evidence(EvidenceOptions options) : options_(std::move(options)) {
    probe_ = probe_machine().dump();
    key_file_ = options_.public_key.empty() ? serve::load_config().public_key : options_.public_key;
    if (!options_.public_key.empty()) (void)weights::PublicKey::read(key_file_);
    for (const std::string& path : options_.models)
        named_.push_back({path, find_materials(path)});
}

const Evidence::Model* Evidence::find(const std::string& sha256, std::vector<Model>& others) const {
    for (const Model& model : named_)
        if (model.found.sha256 == sha256) return &model;
    if (others.empty()) {  // once, for all hashes that are looked for
        std::vector<std::filesystem::path> candidates = model_candidates();
        for (const std::string& path : serve::load_config().models)
            candidates.emplace_back(path);
        for (const std::filesystem::path& path : candidates) {
            try {
                others.push_back({path, find_materials(path)});
            } catch (const Error&) {
                continue;  // no model, or a damaged one: it is not the one that is looked for
            }
        }
    }
    for (const Model& model : others)
        if (model.found.sha256 == sha256) return &model;
    return nullptr;
}

Evidence::Signature Evidence::signature_of(const Model& model) const {
    const std::filesystem::path path = weights::signature_path(model.path);
    const std::string name = printable(path.filename().string());
    if (!std::filesystem::is_regular_file(path)) {
        return {"", fmt::format("none: no {} lies with the model", name)};
    }
    Signature signature;
    try {
        signature.bytes = read_file(path, kSignatureBytesMax);
        if (key_file_.empty()) {
            signature.told =
                "model.sig of this bundle; it was not checked at the export: no public "
                "key is configured there";
            return signature;
        }
        weights::SignatureOptions hashing;
        hashing.n_threads = usable_processors();
        const auto verified =
            weights::verify_model(model.path, path, weights::PublicKey::read(key_file_), hashing);
        signature.told =
            verified.problems.empty()
                ? fmt::format(
                      "model.sig of this bundle; it fitted model and public key {} at the "
                      "export",
                      verified.model.key_hint)
                : fmt::format(
                      "model.sig of this bundle; it did NOT fit the model at the export: {}",
                      weights::problems_text(verified.problems));
        if (verified.problems.empty()) return signature;
    } catch (const Error& error) {
        signature.told = fmt::format("{}; it did NOT hold at the export: {}",
                                     signature.bytes.empty() ? name : "model.sig of this bundle",
                                     error.message());
    }
    std::fprintf(stderr, "etalon: %s: %s\n", printable(model.path.string()).c_str(),
                 printable(signature.told, 1000).c_str());
    return signature;
}

std::string Evidence::sandbox_json(const std::map<std::uint64_t, ledger::ModelLoad>& loads) const {
    ordered_json runs = ordered_json::array();
    for (const auto& [index, load] : loads) {
        ordered_json run{{"load", index}, {"model", load.model}, {"told", nullptr}};
        if (const auto text = ledger::kept_sandbox(options_.ledger, index)) {
            run["told"] = lines_of(*text);
        }
        runs.push_back(std::move(run));
    }
    const ordered_json json{
        {"object", "etalon.sandbox-evidence"},
        {"runs", std::move(runs)},
        {"runs_are",
         "for each model_load record what the worker that loaded the model told of its locks, kept "
         "beside the log without a signature; null: nothing is kept of that run"},
        {"exporting_machine", ordered_json::parse(probe_)},
        {"exporting_machine_is",
         "what the kernel of the machine that made this bundle enforced at the export; not of the "
         "runs above"}};
    return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

std::map<std::string, std::string> Evidence::files(
    const std::map<std::uint64_t, ledger::ModelLoad>& loads) const {
    std::map<std::string, std::string> files{{ledger::kSandboxPath, sandbox_json(loads)}};
    std::vector<Model> others;
    for (const auto& [index, load] : loads) {
        if (files.count(ledger::bom_path(load.model)) > 0) continue;
        const Model* model = find(load.model, others);
        Signature signature{"", "none: the model is not on the exporting machine"};
        if (model != nullptr) signature = signature_of(*model);
        if (model == nullptr) {
            std::fprintf(stderr, "etalon: model %s (%s) is not on this machine: --model FILE\n",
                         load.model.c_str(), printable(load.name).c_str());
        }
        files[ledger::bom_path(load.model)] = bill_of_materials(
            load, model != nullptr ? &model->found : nullptr, signature.told, unix_time_us());
        if (!signature.bytes.empty()) {
            files[ledger::signature_path(load.model)] = std::move(signature.bytes);
        }
    }
    return files;
}

}  // namespace etalon::cli

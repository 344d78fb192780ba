// SPDX-License-Identifier: Apache-2.0
// `etalon verify MODEL --public-key FILE`: is this model, bit for bit, what was signed?
// `etalon verify MODEL --live NONCE`: what a server that has it in memory must have answered.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/commands.h"
#include "cli/load.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signature_flags.h"

#include "base/error.h"
#include "base/sha256.h"
#include "base/thread_pool.h"
#include "model/memory.h"
#include "model/transformer.h"
#include "weights/signature.h"

namespace etalon::cli {

namespace {

using nlohmann::ordered_json;

struct VerifyOptions {
    std::string model;
    std::string signature;
    std::string public_key;
    std::string live;  ///< nonce; empty: the signature is verified
    DeviceOptions device;
    bool json = false;
};

ordered_json to_json(const weights::Verification& found, const std::string& signature) {
    ordered_json problems = ordered_json::array();
    for (const weights::Problem& problem : found.problems) {
        problems.push_back({{"kind", weights::problem_name(problem.kind)},
                            {"file", problem.file},
                            {"detail", problem.detail}});
    }
    return {{"verified", found.problems.empty()}, {"signature", signature},
            {"model_sha256", found.model.root},   {"signed_name", found.model.model_name},
            {"key_sha256", found.model.key_hint}, {"files", found.model.file_count},
            {"bytes", found.model.bytes},         {"problems", problems}};
}

void print_plain(const weights::Verification& found, const std::string& model,
                 const std::string& signature) {
    for (const weights::Problem& problem : found.problems) {
        // "." is the model itself.
        const std::string& file = problem.file == "." ? model : problem.file;
        print(fmt::format("{}  {}  {}\n", weights::problem_name(problem.kind), printable(file),
                          problem.detail));
    }
    if (!found.problems.empty()) return;
    print_field("verified", fmt::format("{}, {}",
                                        count_text(found.model.file_count) +
                                            (found.model.file_count == 1 ? " file" : " files"),
                                        bytes_text(found.model.bytes)));
    print_field("signature", signature);
    print_field("signed as", found.model.model_name);
    print_field("model sha256", found.model.root);
    print_field("key sha256", found.model.key_hint);
}

void print_live_digest(const VerifyOptions& options) {
    const auto nonce = digest_from_hex(options.live);
    if (!nonce) {
        throw Error(ExitCode::usage, "--live: a nonce is 64 lower-case hexadecimal digits");
    }
    const auto file = weights::ModelFile::open(options.model);
    const auto device = make_backend(options.device);
    const int batch = batch_tokens_max(*device);
    model::check_memory(file, *device, batch, batch, model::available_memory(*device));
    model::Transformer transformer(file, *device, batch);
    const std::string digest = to_hex(transformer.live_digest(*nonce));
    if (options.json) {
        print_json({{"nonce", options.live}, {"digest", digest}});
    } else {
        print_field("live digest", digest);
    }
}

void verify(const VerifyOptions& options) {
    if (!options.live.empty()) return print_live_digest(options);
    const std::string key_file = public_key_file(options.public_key);
    const std::filesystem::path signature = options.signature.empty()
                                                ? weights::signature_path(options.model)
                                                : std::filesystem::path(options.signature);
    weights::Verification found;
    try {
        const weights::PublicKey key = weights::PublicKey::read(key_file);
        Progress progress("verify");
        found = weights::verify_model(options.model, signature, key,
                                      {.n_threads = threads_or_all(options.device.threads),
                                       .progress = [&](std::uint64_t done, std::uint64_t total) {
                                           progress.show(done, total);
                                       }});
    } catch (const Error& error) {
        // A program that reads the answer gets one, whatever was wrong.
        if (options.json && error.code() == ExitCode::invalid) {
            print_json({{"verified", false},
                        {"signature", signature.string()},
                        {"error", printable(error.message(), 1000)}});
        }
        throw;
    }
    if (options.json) {
        print_json(to_json(found, signature.string()));
    } else {
        print_plain(found, options.model, signature.string());
    }
    if (!found.problems.empty()) {
        throw Error(
            ExitCode::invalid,
            fmt::format("{}: {}", printable(options.model), weights::problems_text(found.problems)),
            "this is not the model that was signed; fetch it again");
    }
}

}  // namespace

void add_verify(CLI::App& app) {
    CLI::App* command = app.add_subcommand("verify", "compare a model with its signature");
    const auto options = std::make_shared<VerifyOptions>();
    command->add_option("MODEL", options->model, "model file or folder")->required();
    command->add_option("--signature", options->signature,
                        "file to read; MODEL.sig, or model.sig in a folder");
    command->add_option("--public-key", options->public_key,
                        "PEM file of the signer's key; public_key of etalon.toml if absent");
    command->add_option("--live", options->live,
                        "64 hex digits: print the hash of the weights that they key instead");
    add_device_options(*command, options->device);
    add_backend_option(*command, options->device);
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { verify(*options); });
}

}  // namespace etalon::cli

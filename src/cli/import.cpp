// SPDX-License-Identifier: Apache-2.0
// `etalon import SRC DST --as e8`: a float or GGUF model as Etalon's own file.
#include "weights/import.h"

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fmt/format.h>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "cli/commands.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/signature_flags.h"

#include "base/error.h"
#include "base/thread_pool.h"
#include "weights/signature.h"

namespace etalon::cli {

namespace {

struct ImportCommandOptions {
    std::string source;
    std::string destination;
    std::string format;
    std::string sign_key;
    int threads = 0;
    bool json = false;
};

void import_model(const ImportCommandOptions& options) {
    const std::string key_file = signing_key_file(options.sign_key);
    std::optional<weights::PrivateKey> key;
    const std::filesystem::path signature = weights::signature_path(options.destination);
    if (!key_file.empty()) {
        key = weights::PrivateKey::read(key_file);
        weights::check_signature_is_new(signature);
    }
    weights::ImportResult result;
    {
        Progress progress("import");
        weights::ImportOptions import_options;
        import_options.n_threads = options.threads > 0 ? options.threads : usable_processors();
        import_options.progress = [&](std::uint64_t done_bytes, std::uint64_t total_bytes) {
            progress.show(done_bytes, total_bytes);
        };
        result = weights::import_e8(options.source, options.destination, import_options);
        if (key) {
            weights::SignatureOptions signing;
            signing.n_threads = import_options.n_threads;
            (void)weights::sign_model(options.destination, signature, *key, signing);
        }
    }
    if (options.json) {
        nlohmann::ordered_json report{{"path", options.destination},
                                      {"format", options.format},
                                      {"bytes", result.bytes},
                                      {"sha256", result.sha256}};
        if (key) report["signature"] = signature.string();
        print_json(report);
    } else {
        print(fmt::format("{}  {}\n", result.sha256, printable(options.destination)));
    }
}

}  // namespace

void add_import(CLI::App& app) {
    CLI::App* command = app.add_subcommand("import", "write a model as Etalon's own file");
    const auto options = std::make_shared<ImportCommandOptions>();
    command->add_option("SRC", options->source, "model file or folder to read")->required();
    command->add_option("DST", options->destination, ".safetensors file to write")->required();
    command->add_option("--as", options->format, "e8: int8 weights, rotated, a scale a row")
        ->required()
        ->check(CLI::IsMember({"e8"}));
    command->add_option("--threads", options->threads, "threads; 0: one a processor")
        ->check(CLI::Range(0, kThreadsMax));
    command->add_option(
        "--sign-key", options->sign_key,
        "key to sign the file with, PEM or pkcs11:...; signing_key of etalon.toml if absent");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { import_model(*options); });
}

}  // namespace etalon::cli

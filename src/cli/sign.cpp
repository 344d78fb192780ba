// SPDX-License-Identifier: Apache-2.0
// `etalon sign MODEL --key FILE`: a signature beside the model; `--new-key FILE` makes the key.
#include <CLI/CLI.hpp>
#include <cstdio>
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
#include "base/thread_pool.h"
#include "weights/signature.h"

namespace etalon::cli {

namespace {

struct SignOptions {
    std::string model;
    std::string key;
    std::string new_key;
    std::string signature;
    int threads = 0;
    bool whole_files = false;
    bool json = false;
};

/// The key of --new-key, else that of --key or of the configuration.
weights::PrivateKey key_of(const SignOptions& options) {
    if (!options.new_key.empty()) {
        const weights::PrivateKey key = weights::PrivateKey::generate();
        key.write(options.new_key);
        std::fprintf(stderr, "etalon: %s is secret; %s.pub is for everybody\n",
                     printable(options.new_key).c_str(), printable(options.new_key).c_str());
        return key;
    }
    const std::string file = signing_key_file(options.key);
    if (file.empty()) {
        throw Error(ExitCode::usage, "no signing key is named",
                    "--key FILE, --new-key FILE to make one, or signing_key in etalon.toml");
    }
    return weights::PrivateKey::read(file);
}

void sign(const SignOptions& options) {
    if (options.model.empty() && options.new_key.empty()) {
        throw Error(ExitCode::usage, "MODEL is missing", "etalon sign --help");
    }
    const weights::PrivateKey key = key_of(options);
    if (options.model.empty()) return;
    const std::filesystem::path signature = options.signature.empty()
                                                ? weights::signature_path(options.model)
                                                : std::filesystem::path(options.signature);
    weights::SignedModel made;
    {
        Progress progress("sign");
        made = weights::sign_model(
            options.model, signature, key,
            {.n_threads = threads_or_all(options.threads),
             .progress = [&](std::uint64_t done,
                             std::uint64_t total) { progress.show(done, total); },
             .shard_bytes = options.whole_files ? 0 : weights::kSignedShardBytes});
    }
    if (options.json) {
        print_json({{"signature", signature.string()},
                    {"model_sha256", made.root},
                    {"key_sha256", made.key_hint},
                    {"files", made.file_count},
                    {"bytes", made.bytes},
                    {"shard_bytes", made.shard_bytes}});
        return;
    }
    print(fmt::format("{}  {}\n", made.root, printable(signature.string())));
}

}  // namespace

void add_sign(CLI::App& app) {
    CLI::App* command = app.add_subcommand("sign", "sign a model, as OpenSSF Model Signing says");
    const auto options = std::make_shared<SignOptions>();
    command->add_option("MODEL", options->model, "model file or folder");
    CLI::Option* key = command->add_option(
        "--key", options->key,
        "private key on P-256, PEM or pkcs11:...; signing_key of etalon.toml if absent");
    command->add_option("--new-key", options->new_key, "make a key: FILE, and FILE.pub for others")
        ->excludes(key);
    command->add_option("--signature", options->signature,
                        "file to write; MODEL.sig, or model.sig in a folder");
    command->add_option("--threads", options->threads, "threads; 0: one a processor")
        ->check(CLI::Range(0, kThreadsMax));
    command->add_flag("--whole-files", options->whole_files,
                      "one hash a file, for programs that do not know shards; slower");
    command->add_flag("--json", options->json, "print JSON");
    command->callback([options] { sign(*options); });
}

}  // namespace etalon::cli

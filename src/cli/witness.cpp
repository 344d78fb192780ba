// SPDX-License-Identifier: Apache-2.0
// `etalon witness`: signs the checkpoints of other people's logs as long as each continues the
// last.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <memory>

#include "cli/commands.h"
#include "cli/output.h"

#include "base/error.h"
#include "base/file.h"
#include "serve/config.h"
#include "serve/witness_server.h"
#include "tlog/witness_store.h"

namespace etalon::cli {

namespace {

constexpr std::size_t kKeyFileBytesMax = 1024;

struct WitnessOptions {
    std::string folder;
    std::string name;
    std::string listen = "127.0.0.1:8090";
    std::vector<std::string> logs;
};

/// The key in the folder; made with `name` where there is none.
tlog::SigningKey witness_key(const std::filesystem::path& folder, const std::string& name) {
    const std::filesystem::path path = folder / "witness.key";
    if (!std::filesystem::exists(path)) {
        if (name.empty()) {
            throw Error(ExitCode::usage, fmt::format("{} has no key", printable(folder.string())),
                        "--name NAME makes one, as in --name witness.example.org");
        }
        const auto key = tlog::SigningKey::generate(name, tlog::KeyKind::cosignature);
        write_new_file(path, key.text() + "\n", 0600);
    }
    std::string text = read_file(path, kKeyFileBytesMax);
    text.resize(std::min(text.find('\n'), text.size()));
    tlog::SigningKey key = tlog::SigningKey::parse(text);
    if (name.empty() || key.verifier().name == name) return key;
    throw Error(ExitCode::usage, fmt::format("the key in {} is named {}",
                                             printable(folder.string()), key.verifier().name));
}

void witness(const WitnessOptions& options) {
    const std::filesystem::path folder = options.folder.empty()
                                             ? serve::data_folder() / "witness"
                                             : std::filesystem::path(options.folder);
    tlog::FolderDisk disk(folder);
    std::vector<tlog::VerifierKey> logs;
    for (const std::string& log : options.logs) {
        logs.push_back(tlog::parse_verifier_key(log));
        if (logs.back().kind == tlog::KeyKind::ed25519) continue;
        throw Error(ExitCode::usage, fmt::format("{} is not the key of a log", printable(log)));
    }
    tlog::WitnessStore store(disk, witness_key(folder, options.name), logs);
    serve::run_witness(serve::parse_listen(options.listen), store, [&](const serve::Listen& at) {
        const tlog::VerifierKey& key = store.verifier();
        print(fmt::format("witnessing {} logs on http://{}\nin a policy: witness {} {} URL\n",
                          logs.size(), serve::listen_text(at), key.name, key.text()));
    });
}

}  // namespace

void add_witness(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("witness", "sign checkpoints of other logs that continue the last");
    const auto options = std::make_shared<WitnessOptions>();
    command->add_option("--log", options->logs, "verifier key of a log; once for each")->required();
    command->add_option("--folder", options->folder, "key and memory; absent: in the data folder");
    command->add_option("--name", options->name, "of a new key, as witness.example.org");
    command->add_option("--listen", options->listen, "HOST:PORT")->capture_default_str();
    command->callback([options] { witness(*options); });
}

}  // namespace etalon::cli

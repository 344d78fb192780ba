// SPDX-License-Identifier: Apache-2.0
// Options about signatures.
#include "cli/signature_flags.h"

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace etalon::cli {

namespace {

constexpr const char* kRecordFile = "verified-files";

/// Where hashes are kept; empty: nowhere.
std::filesystem::path record_of(const SignatureFlags& flags, const serve::Config& config) {
    const bool always = (flags.verify.empty() ? config.verify : flags.verify) == "always";
    return always ? std::filesystem::path() : serve::data_folder() / kRecordFile;
}

}  // namespace

void add_signature_flags(CLI::App& command, SignatureFlags& flags) {
    command.add_flag("--require-signature", flags.require,
                     "refuse a model that is not signed with the public key");
    command.add_option("--public-key", flags.public_key,
                       "PEM file of the key that models are signed with");
    command
        .add_option("--verify", flags.verify,
                    "when to hash a signed model: always, or once it has changed")
        ->check(CLI::IsMember({"always", "changed"}));
}

weights::AdmissionOptions admission_options(const SignatureFlags& flags,
                                            const serve::Config& config) {
    weights::AdmissionOptions options;
    options.required = flags.require || config.require_signature;
    if (!options.required) {
        if (!flags.public_key.empty()) {
            throw Error(ExitCode::usage, "--public-key: no signature is asked for",
                        "--require-signature asks for one");
        }
        return options;
    }
    options.public_key = flags.public_key.empty() ? config.public_key : flags.public_key;
    if (options.public_key.empty()) {
        throw Error(ExitCode::usage, "a signature is required, and no key is named",
                    "--public-key FILE, or public_key in etalon.toml");
    }
    options.record = record_of(flags, config);
    return options;
}

weights::ModelFile open_admitted(const std::string& model, const SignatureFlags& flags,
                                 int n_threads) {
    weights::Admission admission(model, admission_options(flags, serve::load_config()));
    return weights::ModelFile::open(model, admission.verify(n_threads));
}

HashedModel::HashedModel(const std::string& model, const SignatureFlags& flags, int n_threads)
    : record_(record_of(flags, serve::load_config())), file_([&] {
          weights::Admission admission(model, admission_options(flags, serve::load_config()));
          return weights::ModelFile::open(model, opened_.watch(admission.verify(n_threads)));
      }()) {}

std::string signing_key_file(const std::string& flag) {
    return flag.empty() ? serve::load_config().signing_key : flag;
}

std::string public_key_file(const std::string& flag) {
    const std::string file = flag.empty() ? serve::load_config().public_key : flag;
    if (file.empty()) {
        throw Error(ExitCode::usage, "no public key is named",
                    "--public-key FILE, or public_key in etalon.toml");
    }
    return file;
}

}  // namespace etalon::cli

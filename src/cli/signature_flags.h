// SPDX-License-Identifier: Apache-2.0
// Options about signatures that several commands share, with etalon.toml behind them.
#pragma once

#include <string>

#include "serve/config.h"
#include "weights/admission.h"
#include "weights/model_file.h"
#include "weights/model_hash.h"

namespace CLI {
class App;
}

namespace etalon::cli {

struct SignatureFlags {
    bool require = false;
    std::string public_key;
    std::string verify;  ///< "always", "changed", "": as the configuration says
};

/// --require-signature, --public-key, --verify.
void add_signature_flags(CLI::App& command, SignatureFlags& flags);

/// Flags stand above `config`. Errors: usage (a signature is required and no key is named, or a key
/// is given and nothing is required).
weights::AdmissionOptions admission_options(const SignatureFlags& flags,
                                            const serve::Config& config);

/// Opens a model for use in this process: what is required must be signed. Errors: those of
/// admission_options(), weights::Admission and weights::ModelFile.
weights::ModelFile open_admitted(const std::string& model, const SignatureFlags& flags,
                                 int n_threads);

/// A model and the hash of its weights. A file that was hashed before and has not changed since is
/// not read again, unless `verify` is "always".
class HashedModel {
  public:
    /// Errors: as above.
    HashedModel(const std::string& model, const SignatureFlags& flags, int n_threads);
    const weights::ModelFile& file() const noexcept { return file_; }
    /// May take as long as the model takes to be read. Errors: refused (others may change the
    /// record of hashes).
    Sha256Digest hash() const { return weights::model_hash(file_, opened_, record_); }

  private:
    std::filesystem::path record_;
    weights::OpenedFiles opened_;
    weights::ModelFile file_;
};

/// What the flag says, else signing_key of etalon.toml, else empty.
std::string signing_key_file(const std::string& flag);

/// What the flag says, else public_key of etalon.toml. Errors: usage (neither).
std::string public_key_file(const std::string& flag);

}  // namespace etalon::cli

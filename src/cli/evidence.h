// SPDX-License-Identifier: Apache-2.0
// What an audit bundle holds beside the log: of each model that its records name a bill of
// materials and the signature that the operator has, and what the kernel enforces on workers.
//   const Evidence evidence({.models = {"mistral.gguf"}, .ledger = folder});
//   ledger::export_bundle(folder, range, out, [&](const auto& loads) { return
//   evidence.files(loads); });
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "cli/bill_of_materials.h"

#include "ledger/record.h"

namespace etalon::cli {

struct EvidenceOptions {
    std::vector<std::string> models;  ///< looked at before those that the machine has
    std::string public_key;           ///< PEM file; empty: public_key of etalon.toml, or none
    std::filesystem::path ledger;     ///< its folder
};

class Evidence {
  public:
    /// Tries the sandbox (the caller has one thread) and opens the models that are named. Errors:
    /// those of find_materials() for these, and of weights::PublicKey::read.
    explicit Evidence(EvidenceOptions options);

    /// Files of the bundle, as ledger::EvidenceSource wants them. A model that is found nowhere is
    /// no error: its bill says so, and so does a line on stderr.
    std::map<std::string, std::string> files(
        const std::map<std::uint64_t, ledger::ModelLoad>& loads) const;

  private:
    struct Signature {
        std::string bytes;  ///< empty: there is none
        std::string told;   ///< a sentence about it
    };
    struct Model {
        std::filesystem::path path;
        FoundModel found;
    };

    /// Looks through the machine's models for this hash; nullptr: it is not there.
    const Model* find(const std::string& sha256, std::vector<Model>& others) const;
    Signature signature_of(const Model& model) const;
    std::string sandbox_json(const std::map<std::uint64_t, ledger::ModelLoad>& loads) const;

    EvidenceOptions options_;
    std::string key_file_;  // of the public key; "": none is known
    std::string probe_;     // JSON: what the sandbox of this machine holds
    std::vector<Model> named_;
};

}  // namespace etalon::cli

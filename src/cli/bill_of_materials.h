// SPDX-License-Identifier: Apache-2.0
// The bill of materials of a model: CycloneDX 1.7 JSON with a component of type
// machine-learning-model, its files, and this program with its libraries.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "ledger/record.h"
#include "weights/model_file.h"

namespace etalon::cli {

struct MaterialFile {
    std::uint64_t bytes = 0;
    std::string sha256;
};

/// A model as this machine has it.
struct FoundModel {
    weights::ModelFile file;
    std::string sha256;                         ///< as records name it
    std::map<std::string, MaterialFile> files;  ///< weights, and what lies beside them; by name
    std::size_t n_weights = 0;                  ///< how many of them are weights
};

/// Opens and hashes it. Errors: those of weights::ModelFile and MappedFile.
FoundModel find_materials(const std::filesystem::path& model);

/// `found` null: the model is not on this machine, and the bill says what the records do and that.
/// `signature`: a sentence about its signature. `time_us`: of the bill, since 1970.
std::string bill_of_materials(const ledger::ModelLoad& recorded, const FoundModel* found,
                              const std::string& signature, std::uint64_t time_us);

}  // namespace etalon::cli

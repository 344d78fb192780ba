// SPDX-License-Identifier: Apache-2.0
// The hash by which records and payloads name a model, and that anybody makes with sha256sum.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/file.h"
#include "base/sha256.h"
#include "weights/model_file.h"

namespace etalon::weights {

/// One file of weights: its SHA-256. Several: the SHA-256 of the lines `HASH  NAME\n` of
/// the files, by ascending name without folder: `sha256sum *.safetensors | sha256sum` in the
/// folder of the model. Reads every byte.
Sha256Digest model_hash(const ModelFile& file);

/// SHA-256 of each file of weights in hexadecimal, by its name without folder. Reads every byte.
std::map<std::string, std::string> weight_hashes(const ModelFile& file);
/// The hash as above in hexadecimal, from these; at least one.
std::string model_hash(const std::map<std::string, std::string>& hashes);

/// What the files of a model were when they were opened.
///   OpenedFiles opened;
///   const auto file = ModelFile::open(path, opened.watch());
///   model_hash(file, opened, record);
class OpenedFiles {
  public:
    /// For ModelFile::open, while this object is there; `next` is asked too.
    FileCheck watch(FileCheck next = {});
    const std::map<std::filesystem::path, FileIdentity>& files() const noexcept { return files_; }

  private:
    std::map<std::filesystem::path, FileIdentity> files_;
};

/// The same hash. A file that `record` (AdmissionOptions::record) knows and that has not changed
/// since is not read again; what is read is learned. Errors: refused (others may change the
/// record).
Sha256Digest model_hash(const ModelFile& file, const OpenedFiles& opened,
                        const std::filesystem::path& record);

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// Lets a signed model in: before a byte of it is parsed, its signature, its owners and its content
// are checked, and only the very files that were checked may be opened afterwards. Two steps, so
// that a process can close its sandbox between them: the first looks at owners and modes and opens
// nothing of the model, the second reads hostile bytes.
//
//   Admission admission(model, {.required = true, .public_key = "release.pub"});
//   ... close the sandbox, with admission.readable() and admission.descriptors() ...
//   const FileCheck check = admission.verify(n_threads);
//   const auto file = ModelFile::open(model, check);
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "base/file.h"

namespace etalon::weights {

struct AdmissionOptions {
    bool required = false;  ///< false: every model is let in, nothing is looked at
    std::filesystem::path public_key;
    std::filesystem::path signature;  ///< empty: signature_path()
    /// Files that were hashed before and have not changed since are not hashed again; empty: every
    /// start hashes.
    std::filesystem::path record;
    bool file_sha256 = false;  ///< fill Admitted::file_sha256: one core reads the file once more
};

/// What an admission has found.
struct Admitted {
    std::string root;  ///< SignedModel::root
    std::string key_hint;
    std::string file_sha256;         ///< of a model that is one file, whole; else empty
    std::uint64_t hashed_bytes = 0;  ///< 0: everything was known from before
};

class Admission {
  public:
    /// Errors, all of them `refused` but for a model that is not there (not_found): no signature, a
    /// public key or a record that others may write, a file or a folder of the model that somebody
    /// else than the user and root may change, symbolic links and the like.
    Admission(const std::filesystem::path& model, const AdmissionOptions& options);
    Admission(Admission&&) noexcept;
    ~Admission();

    /// Files and folders that verify() reads; descriptors that it needs open.
    std::vector<std::filesystem::path> readable() const;
    std::vector<int> descriptors() const;

    /// Called once. The check that it returns refuses every file that is not signed or that is not
    /// the one that was verified; it is empty where nothing is required. Errors: refused.
    FileCheck verify(int n_threads);
    /// Behind verify().
    const Admitted& admitted() const noexcept { return admitted_; }

  private:
    struct State;
    std::unique_ptr<State> state_;  // none where nothing is required
    Admitted admitted_;
};

}  // namespace etalon::weights

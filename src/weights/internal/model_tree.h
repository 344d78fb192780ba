// SPDX-License-Identifier: Apache-2.0
// The files of a model as they lie on disk: one file, or everything below a folder. Nothing is
// read.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/file.h"

namespace etalon::weights {

struct TreeFile {
    std::string name;  ///< below the folder, with '/'; kOnlyFile for a model that is one file
    std::filesystem::path path;
    FileIdentity identity;
};

struct ModelTree {
    std::string model_name;  ///< last part of the path
    bool is_folder = false;
    std::vector<TreeFile> files;                 ///< by name, ascending
    std::vector<std::filesystem::path> folders;  ///< the model's own and those below
    /// Why somebody else than the user and root may change a file or a folder; empty: nobody may.
    std::string open_to_others;
    std::string open_to_others_hint;
};

/// git's own files at the top, which no signature covers, are left out, and `signature` as well.
/// Errors: not_found, invalid (a symbolic link, a pipe, a device, a name that is not UTF-8, more
/// than kModelFilesMax files or kModelFoldersDeepMax folders deep), failure (a folder cannot be
/// read).
ModelTree list_model(const std::filesystem::path& model, const std::filesystem::path& signature);

/// ".git" and its kin.
const std::vector<std::string>& git_names();

/// True for `name` itself and for what lies below it in one of `ignored`.
bool is_ignored(const std::string& name, const std::vector<std::string>& ignored);

}  // namespace etalon::weights

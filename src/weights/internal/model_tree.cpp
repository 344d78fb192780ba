// SPDX-License-Identifier: Apache-2.0
// Walks the folder of a model.
#include "weights/internal/model_tree.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/utf8.h"
#include "weights/internal/limits.h"
#include "weights/internal/oms_statement.h"

namespace etalon::weights {

namespace fs = std::filesystem;

namespace {

[[noreturn]] void refuse_path(const fs::path& path, const char* why, const char* hint = "") {
    throw Error(ExitCode::invalid, fmt::format("{} {}", printable(path.string()), why), hint);
}

struct stat status_of(const fs::path& path) {
    struct stat status {};
    if (::lstat(path.c_str(), &status) != 0) {
        const ExitCode code = errno == ENOENT ? ExitCode::not_found : ExitCode::failure;
        throw Error(code, fmt::format("cannot open {}: {}", printable(path.string()),
                                      std::strerror(errno)));
    }
    return status;
}

/// The last part; of "/models/mistral/." as well.
std::string name_of(const fs::path& path) {
    return (path.has_filename() ? path : path.parent_path()).filename().string();
}

class Walk {
  public:
    explicit Walk(const fs::path& signature) : signature_(signature) {}

    ModelTree run(const fs::path& model) {
        // "models/mistral/" names the same folder as "models/mistral".
        const fs::path root = model.has_filename() ? model : model.parent_path();
        tree_.model_name = name_of(fs::absolute(root).lexically_normal());
        const struct stat status = status_of(root);
        if (S_ISDIR(status.st_mode)) {
            tree_.is_folder = true;
            add_folder(root, "", status, 0);
        } else {
            add_file(root, kOnlyFile, status);
        }
        std::sort(tree_.files.begin(), tree_.files.end(),
                  [](const TreeFile& a, const TreeFile& b) { return a.name < b.name; });
        return std::move(tree_);
    }

  private:
    void add_folder(const fs::path& folder, const std::string& prefix, const struct stat& status,
                    int depth) {
        if (depth > kModelFoldersDeepMax) refuse_path(folder, "lies too many folders deep");
        look_at(folder, status);
        tree_.folders.push_back(folder);
        std::error_code error;
        for (fs::directory_iterator entry(folder, error), end; entry != end && !error;
             entry.increment(error)) {
            const fs::path& path = entry->path();
            const std::string file = path.filename().string();
            const bool of_git = depth == 0 && is_ignored(file, git_names());
            if (of_git || is_signature(path)) continue;
            if (!is_utf8(file)) refuse_path(path, "has a name that is not UTF-8");
            const struct stat below = status_of(path);
            if (S_ISDIR(below.st_mode)) {
                add_folder(path, prefix + file + "/", below, depth + 1);
            } else {
                add_file(path, prefix + file, below);
            }
        }
        if (error) {
            throw Error(
                ExitCode::failure,
                fmt::format("cannot read {}: {}", printable(folder.string()), error.message()));
        }
    }

    void add_file(const fs::path& path, const std::string& name, const struct stat& status) {
        if (S_ISLNK(status.st_mode)) {
            refuse_path(path, "is a symbolic link, which no signature covers",
                        "name or copy the file that it leads to");
        }
        if (!S_ISREG(status.st_mode)) refuse_path(path, "is no regular file");
        if (tree_.files.size() >= kModelFilesMax) refuse_path(path, "is one file too many");
        look_at(path, status);
        tree_.files.push_back({name, path, identity_from(status)});
    }

    /// The first thing that others may change is remembered.
    void look_at(const fs::path& path, const struct stat& status) {
        if (!tree_.open_to_others.empty()) return;
        const std::string name = printable(path.string());
        if (status.st_uid != 0 && status.st_uid != ::geteuid()) {
            tree_.open_to_others =
                fmt::format("{} belongs to user {}, who may change it", name, status.st_uid);
            tree_.open_to_others_hint = "it must belong to root or to the user who runs this";
        } else if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
            tree_.open_to_others = fmt::format("{} may be written by others than its owner", name);
            tree_.open_to_others_hint = "chmod go-w " + name;
        }
    }

    bool is_signature(const fs::path& path) const {
        return fs::absolute(path).lexically_normal() == fs::absolute(signature_).lexically_normal();
    }

    const fs::path& signature_;
    ModelTree tree_;
};

}  // namespace

ModelTree list_model(const fs::path& model, const fs::path& signature) {
    return Walk(signature).run(model);
}

const std::vector<std::string>& git_names() {
    static const std::vector<std::string> names{".git", ".gitattributes", ".github", ".gitignore"};
    return names;
}

bool is_ignored(const std::string& name, const std::vector<std::string>& ignored) {
    return std::any_of(ignored.begin(), ignored.end(), [&](const std::string& one) {
        return name == one || (name.size() > one.size() && name[one.size()] == '/' &&
                               name.compare(0, one.size(), one) == 0);
    });
}

}  // namespace etalon::weights

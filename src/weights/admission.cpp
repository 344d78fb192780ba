// SPDX-License-Identifier: Apache-2.0
// Lets a signed model in.
#include "weights/admission.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "weights/internal/limits.h"
#include "weights/internal/model_check.h"
#include "weights/internal/oms_bundle.h"
#include "weights/internal/verified_record.h"
#include "weights/signature.h"

namespace etalon::weights {

namespace fs = std::filesystem;

namespace {

/// Whatever is wrong with a model that must be signed, the policy is what refuses it.
template <typename Step>
auto refusing(Step step) {
    try {
        return step();
    } catch (const Error& error) {
        const bool keeps =
            error.code() == ExitCode::out_of_memory || error.code() == ExitCode::interrupted;
        throw Error(keeps ? error.code() : ExitCode::refused, error.message(), error.hint());
    }
}

/// The key decides everything: nobody else may change it.
PublicKey trusted_key(const fs::path& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0) {
        const std::string name = printable(path.string());
        const bool foreign = status.st_uid != 0 && status.st_uid != ::geteuid();
        if (foreign || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0) {
            throw Error(ExitCode::refused,
                        fmt::format("public key {} may be changed by other users", name),
                        "it must belong to root or to the user who runs this; chmod go-w " + name);
        }
    }
    return PublicKey::read(path);
}

/// From the record, else computed and put there.
std::string whole_sha256(const TreeFile& file, VerifiedRecord& record) {
    const std::string known = record.whole_sha256(file.identity);
    if (!known.empty()) return known;
    const std::string sha256 = to_hex(hash_files({&file}, {}).front().front());
    record.learn_whole(file.identity, sha256);
    return sha256;
}

/// The check of ModelFile::open(): the file is one that was verified, in the same state.
FileCheck check_against(std::map<fs::path, FileIdentity> verified) {
    return [verified = std::move(verified)](const fs::path& path, const FileIdentity& identity) {
        const auto found = verified.find(path.lexically_normal());
        const std::string name = printable(path.string());
        if (found == verified.end()) {
            throw Error(ExitCode::refused, fmt::format("{} is read and not signed", name),
                        "sign the folder that holds it, and name the folder");
        }
        if (found->second != identity) {
            throw Error(ExitCode::refused,
                        fmt::format("{} was changed after it was verified", name));
        }
    };
}

}  // namespace

struct Admission::State {
    fs::path signature;
    bool file_sha256 = false;
    ModelTree tree;
    PublicKey key;
    VerifiedRecord record;
};

Admission::Admission(const fs::path& model, const AdmissionOptions& options) {
    if (!options.required) return;
    std::error_code error;
    if (!fs::exists(fs::symlink_status(model, error))) {
        throw Error(ExitCode::not_found, fmt::format("cannot open {}: No such file or directory",
                                                     printable(model.string())));
    }
    state_ = refusing([&] {
        const fs::path signature =
            options.signature.empty() ? signature_path(model) : options.signature;
        if (!fs::exists(signature, error)) {
            throw Error(ExitCode::refused,
                        fmt::format("{} is not signed: there is no {}", printable(model.string()),
                                    printable(signature.string())),
                        "etalon sign MODEL --key FILE signs it");
        }
        ModelTree tree = list_model(model, signature);
        if (!tree.open_to_others.empty()) {
            throw Error(ExitCode::refused, tree.open_to_others, tree.open_to_others_hint);
        }
        return std::make_unique<State>(State{signature, options.file_sha256, std::move(tree),
                                             trusted_key(options.public_key),
                                             VerifiedRecord(options.record)});
    });
}

Admission::Admission(Admission&&) noexcept = default;
Admission::~Admission() = default;

std::vector<fs::path> Admission::readable() const {
    std::vector<fs::path> paths;
    if (!state_) return paths;
    paths.push_back(state_->signature);
    for (const TreeFile& file : state_->tree.files)
        paths.push_back(file.path);
    return paths;
}

std::vector<int> Admission::descriptors() const {
    if (!state_ || state_->record.fd() < 0) return {};
    return {state_->record.fd()};
}

FileCheck Admission::verify(int n_threads) {
    if (!state_) return {};
    return refusing([&] {
        State& state = *state_;
        const std::string name = state.signature.string();
        const std::string bundle = read_file(state.signature, kBundleBytesMax);
        const Statement statement = parse_statement(open_bundle(bundle, state.key, name), name);
        KnownContent known;
        known.knows = [&](const FileIdentity& identity, const std::string& content) {
            const bool is_known = state.record.knows(identity, content);
            if (!is_known) admitted_.hashed_bytes += identity.size;
            return is_known;
        };
        known.learn = [&](const FileIdentity& identity, const std::string& content) {
            state.record.learn(identity, content);
        };
        const Verification found = check_model(state.tree, statement, {n_threads, 0, {}}, known);
        if (!found.problems.empty()) {
            throw Error(ExitCode::refused,
                        fmt::format("{} ({})", problems_text(found.problems), printable(name)),
                        "etalon verify MODEL lists every difference");
        }
        if (state.file_sha256 && !state.tree.is_folder) {
            admitted_.file_sha256 = whole_sha256(state.tree.files.front(), state.record);
        }
        // What runs later must not be able to vouch for a file.
        state.record.close();
        admitted_.root = found.model.root;
        admitted_.key_hint = state.key.hint();
        std::map<fs::path, FileIdentity> verified;
        for (const TreeFile& file : state.tree.files) {
            // What the signature leaves out was not verified.
            const bool is_signed =
                std::any_of(statement.files.begin(), statement.files.end(),
                            [&](const SignedFile& one) { return one.name == file.name; });
            if (is_signed) verified.emplace(file.path.lexically_normal(), file.identity);
        }
        return check_against(std::move(verified));
    });
}

}  // namespace etalon::weights

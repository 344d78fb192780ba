// SPDX-License-Identifier: Apache-2.0
// Signs and verifies models.
#include "weights/signature.h"

#include <algorithm>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "weights/internal/limits.h"
#include "weights/internal/model_check.h"
#include "weights/internal/oms_bundle.h"

namespace etalon::weights {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFolderSignature = "model.sig";

bool shards_can_express(const ModelTree& tree) {
    return std::none_of(tree.files.begin(), tree.files.end(), [](const TreeFile& file) {
        return file.identity.size == 0 || file.name.find(':') != std::string::npos;
    });
}

Statement statement_of(const ModelTree& tree, std::uint64_t shard_bytes,
                       const std::vector<std::vector<Sha256Digest>>& digests) {
    Statement statement;
    statement.model_name = tree.model_name;
    statement.shard_bytes = shard_bytes;
    for (std::size_t i = 0; i < tree.files.size(); ++i) {
        SignedFile file{tree.files[i].name, {}};
        const std::uint64_t size = tree.files[i].identity.size;
        for (std::size_t k = 0; k < digests[i].size(); ++k) {
            const std::uint64_t begin = k * shard_bytes;
            const std::uint64_t end = shard_bytes == 0 ? size : std::min(size, begin + shard_bytes);
            file.ranges.push_back({begin, end, digests[i][k]});
        }
        statement.files.push_back(std::move(file));
    }
    return statement;
}

}  // namespace

fs::path signature_path(const fs::path& model) {
    std::error_code error;
    if (fs::is_directory(model, error)) return model / kFolderSignature;
    fs::path path = model;
    path += ".sig";
    return path;
}

void check_signature_is_new(const fs::path& signature) {
    std::error_code error;
    if (!fs::exists(fs::symlink_status(signature, error))) return;
    throw Error(ExitCode::failure, fmt::format("{} exists already", printable(signature.string())),
                "remove it, or choose another name");
}

SignedModel sign_model(const fs::path& model, const fs::path& signature, const PrivateKey& key,
                       const SignatureOptions& options) {
    check_signature_is_new(signature);
    const ModelTree tree = list_model(model, signature);
    if (tree.files.empty()) {
        throw Error(ExitCode::invalid,
                    fmt::format("{} holds no file to sign", printable(model.string())));
    }
    HashOptions hashing{options.n_threads, 0, options.progress};
    hashing.shard_bytes = shards_can_express(tree) ? options.shard_bytes : 0;
    std::vector<const TreeFile*> files;
    SignedModel out;
    for (const TreeFile& file : tree.files) {
        files.push_back(&file);
        out.bytes += file.identity.size;
    }
    Statement statement = statement_of(tree, hashing.shard_bytes, hash_files(files, hashing));
    if (tree.is_folder) {
        statement.ignore_names = git_names();
        // Verifiers that do not know where the signature lies would take it for an extra file.
        std::error_code error;
        const bool inside = fs::equivalent(
            signature.has_parent_path() ? signature.parent_path() : fs::path("."), model, error);
        if (inside) statement.ignore_names.push_back(signature.filename().string());
    }
    const std::string text = format_statement(statement);
    const std::string bundle = make_bundle(text, key);
    // What we write, everybody must be able to read: limits and spelling are those of the reader.
    (void)parse_statement(open_bundle(bundle, key.public_key(), signature.string()),
                          signature.string());
    constexpr unsigned kReadable = S_IRUSR | S_IRGRP | S_IROTH;
    write_new_file(signature, bundle, kReadable);
    out.root = to_hex(statement.root);
    out.model_name = statement.model_name;
    out.key_hint = key.public_key().hint();
    out.shard_bytes = statement.shard_bytes;
    out.file_count = tree.files.size();
    return out;
}

std::string_view problem_name(ProblemKind kind) noexcept {
    switch (kind) {
        case ProblemKind::changed:
            return "changed";
        case ProblemKind::missing:
            return "missing";
        case ProblemKind::extra:
            return "extra";
    }
    return "";
}

Verification verify_model(const fs::path& model, const fs::path& signature, const PublicKey& key,
                          const SignatureOptions& options) {
    const ModelTree tree = list_model(model, signature);
    const std::string name = signature.string();
    const std::string bundle = read_file(signature, kBundleBytesMax);
    const Statement statement = parse_statement(open_bundle(bundle, key, name), name);
    Verification out = check_model(tree, statement, {options.n_threads, 0, options.progress});
    out.model.key_hint = key.hint();
    return out;
}

std::string problems_text(const std::vector<Problem>& problems) {
    ETALON_ASSERT(!problems.empty());
    const Problem& first = problems.front();
    const std::string file =
        first.file == kOnlyFile ? "" : fmt::format("file {} ", printable(first.file));
    std::string out = file + first.detail;
    if (problems.size() > 1) out += fmt::format(", and {} more", problems.size() - 1);
    return out;
}

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// A model on disk against a statement.
#include "weights/internal/model_check.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::weights {

namespace {

using Problems = std::vector<Problem>;

/// A file on disk and what is signed of it.
struct Pair {
    const TreeFile* file = nullptr;
    const SignedFile* wanted = nullptr;
};

/// Both lists ascend by name: one pass finds what is in one of them only.
std::vector<Pair> pair_up(const ModelTree& tree, const Statement& statement, Problems& problems) {
    std::vector<Pair> pairs;
    auto wanted = statement.files.begin();
    for (const TreeFile& file : tree.files) {
        for (; wanted != statement.files.end() && wanted->name < file.name; ++wanted)
            problems.push_back({ProblemKind::missing, wanted->name, "is signed and not there"});
        if (wanted != statement.files.end() && wanted->name == file.name) {
            pairs.push_back({&file, &*wanted++});
        } else if (!is_ignored(file.name, statement.ignore_names)) {
            problems.push_back({ProblemKind::extra, file.name, "is there and not signed"});
        }
    }
    for (; wanted != statement.files.end(); ++wanted)
        problems.push_back({ProblemKind::missing, wanted->name, "is signed and not there"});
    return pairs;
}

void compare(const Pair& pair, const std::vector<Sha256Digest>& digests, bool has_shards,
             Problems& problems) {
    ETALON_ASSERT(digests.size() == pair.wanted->ranges.size());
    for (std::size_t i = 0; i < digests.size(); ++i) {
        const SignedRange& range = pair.wanted->ranges[i];
        if (digests[i] == range.digest) continue;
        problems.push_back({ProblemKind::changed, pair.file->name,
                            has_shards
                                ? fmt::format("bytes {} to {} are not those that were signed",
                                              range.begin, range.end)
                                : "is not what was signed"});
    }
}

}  // namespace

std::string content_digest(const SignedFile& file, std::uint64_t shard_bytes) {
    Sha256 hash;
    hash.update(fmt::format("{}\n", shard_bytes));
    for (const SignedRange& range : file.ranges)
        hash.update(std::as_bytes(std::span(range.digest)));
    return to_hex(hash.finish());
}

Verification check_model(const ModelTree& tree, const Statement& statement,
                         const HashOptions& options, const KnownContent& known) {
    Verification out;
    out.model.root = to_hex(statement.root);
    out.model.model_name = statement.model_name;
    out.model.shard_bytes = statement.shard_bytes;
    out.model.file_count = tree.files.size();
    std::vector<Pair> unknown;
    std::vector<const TreeFile*> files;
    for (const Pair& pair : pair_up(tree, statement, out.problems)) {
        const std::uint64_t size = pair.file->identity.size;
        out.model.bytes += size;
        // Sizes first: only as many shards are hashed as the statement has.
        if (statement.has_shards() && size != pair.wanted->ranges.back().end) {
            out.problems.push_back({ProblemKind::changed, pair.file->name,
                                    fmt::format("has {} bytes, {} were signed", size,
                                                pair.wanted->ranges.back().end)});
            continue;
        }
        if (known.knows &&
            known.knows(pair.file->identity, content_digest(*pair.wanted, statement.shard_bytes))) {
            continue;
        }
        unknown.push_back(pair);
        files.push_back(pair.file);
    }
    HashOptions hashing = options;
    hashing.shard_bytes = statement.shard_bytes;
    const auto digests = hash_files(files, hashing);
    for (std::size_t i = 0; i < unknown.size(); ++i) {
        const std::size_t before = out.problems.size();
        compare(unknown[i], digests[i], statement.has_shards(), out.problems);
        if (known.learn && out.problems.size() == before) {
            known.learn(unknown[i].file->identity,
                        content_digest(*unknown[i].wanted, statement.shard_bytes));
        }
    }
    std::stable_sort(out.problems.begin(), out.problems.end(),
                     [](const Problem& a, const Problem& b) { return a.file < b.file; });
    return out;
}

}  // namespace etalon::weights

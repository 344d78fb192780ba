// SPDX-License-Identifier: Apache-2.0
// One hash for all files of weights.
#include "weights/model_hash.h"

#include <fmt/format.h>
#include <map>
#include <string>
#include <utility>

#include "base/error.h"
#include "weights/internal/verified_record.h"

namespace etalon::weights {

namespace {

/// `hash_of` gives the hexadecimal hash of one file.
template <typename HashOf>
std::map<std::string, std::string> hashes_of(const ModelFile& file, const HashOf& hash_of) {
    std::map<std::string, std::string> hashes;  // by name, the bytes of which give the order
    for (const MappedFile& mapped : file.files())
        hashes[mapped.path().filename().string()] = hash_of(mapped);
    return hashes;
}

Sha256Digest digest_of(const std::map<std::string, std::string>& hashes) {
    const auto digest = digest_from_hex(model_hash(hashes));
    ETALON_ASSERT(digest);
    return *digest;
}

}  // namespace

std::map<std::string, std::string> weight_hashes(const ModelFile& file) {
    return hashes_of(file, [](const MappedFile& mapped) { return to_hex(sha256(mapped.bytes())); });
}

std::string model_hash(const std::map<std::string, std::string>& hashes) {
    ETALON_ASSERT(!hashes.empty());
    if (hashes.size() == 1) return hashes.begin()->second;
    Sha256 lines;
    for (const auto& [name, hex] : hashes)
        lines.update(fmt::format("{}  {}\n", hex, name));
    return to_hex(lines.finish());
}

Sha256Digest model_hash(const ModelFile& file) {
    return digest_of(weight_hashes(file));
}

FileCheck OpenedFiles::watch(FileCheck next) {
    return [this, next = std::move(next)](const std::filesystem::path& path,
                                          const FileIdentity& identity) {
        files_[path] = identity;
        if (next) next(path, identity);
    };
}

Sha256Digest model_hash(const ModelFile& file, const OpenedFiles& opened,
                        const std::filesystem::path& record) {
    VerifiedRecord known(record);
    return digest_of(hashes_of(file, [&](const MappedFile& mapped) {
        const auto found = opened.files().find(mapped.path());
        ETALON_ASSERT(found != opened.files().end());
        std::string hash = known.whole_sha256(found->second);
        if (!hash.empty()) return hash;
        hash = to_hex(sha256(mapped.bytes()));
        known.learn_whole(found->second, hash);
        return hash;
    }));
}

}  // namespace etalon::weights

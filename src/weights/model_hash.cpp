// SPDX-License-Identifier: Apache-2.0
// One hash for all files of weights.
#include "weights/model_hash.h"

#include <fmt/format.h>
#include <map>
#include <string>

#include "base/error.h"

namespace etalon::weights {

Sha256Digest model_hash(const ModelFile& file) {
    ETALON_ASSERT(!file.files().empty());
    if (file.files().size() == 1) return sha256(file.files().front().bytes());
    std::map<std::string, std::string> hashes;  // by name, the bytes of which give the order
    for (const MappedFile& mapped : file.files())
        hashes[mapped.path().filename().string()] = to_hex(sha256(mapped.bytes()));
    Sha256 lines;
    for (const auto& [name, hex] : hashes)
        lines.update(fmt::format("{}  {}\n", hex, name));
    return lines.finish();
}

}  // namespace etalon::weights

// SPDX-License-Identifier: Apache-2.0
// MANIFEST of an audit bundle, as a value and as the text of a note (docs/ledger.md section 6).
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>

namespace etalon::ledger {

struct Manifest {
    struct File {
        std::string sha256;
        std::uint64_t bytes = 0;
        bool operator==(const File&) const = default;
    };
    std::string origin;
    std::uint64_t size = 0;
    std::uint64_t first = 0;
    std::uint64_t end = 0;
    std::uint64_t made_us = 0;
    std::map<std::string, File> files;  ///< by path
    bool operator==(const Manifest&) const = default;
};

std::string manifest_text(const Manifest& manifest);
/// The text may be hostile. Errors: invalid.
Manifest parse_manifest(std::string_view text);

/// Every file below the folder but MANIFEST, with size and hash. Errors: invalid (a link or another
/// thing that is no file, a path that bundles do not have), failure.
std::map<std::string, Manifest::File> hash_folder(const std::filesystem::path& folder);

}  // namespace etalon::ledger

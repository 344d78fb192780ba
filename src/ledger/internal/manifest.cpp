// SPDX-License-Identifier: Apache-2.0
#include "ledger/internal/manifest.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/file.h"
#include "ledger/internal/crypto.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/record.h"
#include "tlog/checkpoint.h"

namespace etalon::ledger {

namespace {

constexpr std::string_view kTitle = "etalon.audit-bundle/v2";
constexpr const char* kManifestName = "MANIFEST";

[[noreturn]] void refuse(std::size_t line, std::string_view why) {
    throw Error(ExitCode::invalid, fmt::format("MANIFEST, line {}: {}", line, why));
}

bool is_path(std::string_view path) {
    if (path.empty() || path.size() > kPathBytesMax) return false;
    while (true) {
        const std::string_view element = path.substr(0, path.find('/'));
        const bool good = !element.empty() && element != "." && element != ".." &&
                          std::all_of(element.begin(), element.end(), [](char c) {
                              return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                                     (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
                          });
        if (!good) return false;
        if (element.size() == path.size()) return true;
        path.remove_prefix(element.size() + 1);
    }
}

/// Lines one by one, and their words.
class Lines {
  public:
    explicit Lines(std::string_view text) : text_(text) {}

    bool at_end() const { return text_.empty(); }
    std::size_t number() const { return number_; }

    std::string_view next() {
        ++number_;
        const std::size_t end = text_.find('\n');
        if (end == std::string_view::npos) refuse(number_, "it has no end");
        const std::string_view line = text_.substr(0, end);
        text_.remove_prefix(end + 1);
        return line;
    }

    /// The words behind `name` of the next line.
    template <std::size_t N>
    std::array<std::string_view, N> words(std::string_view name) {
        std::string_view line = next();
        if (line.substr(0, name.size() + 1) != std::string(name) + " ") {
            refuse(number_, fmt::format("expected {}", name));
        }
        line.remove_prefix(name.size() + 1);
        std::array<std::string_view, N> found;
        for (std::size_t i = 0; i < N; ++i) {
            const std::size_t space = line.find(' ');
            if ((space == std::string_view::npos) != (i + 1 == N)) {
                refuse(number_, "it has too few or too many words");
            }
            found[i] = line.substr(0, space);
            line.remove_prefix(std::min(line.size(), found[i].size() + 1));
        }
        return found;
    }

    std::uint64_t decimal(std::string_view word) const {
        std::uint64_t value = 0;
        if (!tlog::parse_decimal(word, value) || value > kIntegerMax) {
            refuse(number_, "a number is none");
        }
        return value;
    }

  private:
    std::string_view text_;
    std::size_t number_ = 0;
};

}  // namespace

std::string manifest_text(const Manifest& manifest) {
    std::string text =
        fmt::format("{}\norigin {}\nsize {}\nrange {} {}\nmade {}\n", kTitle, manifest.origin,
                    manifest.size, manifest.first, manifest.end, manifest.made_us);
    for (const auto& [path, file] : manifest.files)
        text += fmt::format("file {} {} {}\n", file.sha256, file.bytes, path);
    return text;
}

Manifest parse_manifest(std::string_view text) {
    if (text.size() > kManifestBytesMax) throw Error(ExitCode::invalid, "MANIFEST is too large");
    Lines lines(text);
    if (lines.next() != kTitle) refuse(1, "it is no audit bundle of version 2");
    Manifest manifest;
    manifest.origin = lines.words<1>("origin")[0];
    manifest.size = lines.decimal(lines.words<1>("size")[0]);
    const auto range = lines.words<2>("range");
    manifest.first = lines.decimal(range[0]);
    manifest.end = lines.decimal(range[1]);
    if (manifest.first > manifest.end || manifest.end > manifest.size) {
        refuse(lines.number(), "the range is not in the log");
    }
    manifest.made_us = lines.decimal(lines.words<1>("made")[0]);
    while (!lines.at_end()) {
        const auto words = lines.words<3>("file");
        if (!is_hex(words[0], kHashDigits)) refuse(lines.number(), "the hash is none");
        if (!is_path(words[2])) refuse(lines.number(), "the path is none of a bundle");
        const bool ascends = manifest.files.empty() || manifest.files.rbegin()->first < words[2];
        if (!ascends || words[2] == kManifestName) refuse(lines.number(), "it is out of order");
        manifest.files.emplace(words[2],
                               Manifest::File{std::string(words[0]), lines.decimal(words[1])});
    }
    return manifest;
}

std::map<std::string, Manifest::File> hash_folder(const std::filesystem::path& folder) {
    std::map<std::string, Manifest::File> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        const std::string path = entry.path().lexically_relative(folder).string();
        const std::filesystem::file_status status = entry.symlink_status();
        if (std::filesystem::is_directory(status)) continue;
        if (!std::filesystem::is_regular_file(status)) {
            throw Error(ExitCode::invalid, fmt::format("{} is no file", printable(path)));
        }
        if (path == kManifestName) continue;
        if (!is_path(path)) {
            throw Error(ExitCode::invalid,
                        fmt::format("{} is no path of a bundle", printable(path)));
        }
        const MappedFile file(entry.path());
        files[path] = {to_hex(sha256(file.bytes())), file.bytes().size()};
    }
    return files;
}

}  // namespace etalon::ledger

// SPDX-License-Identifier: Apache-2.0
// Files of the key folder, each of mode 0600:
//   secret         32 bytes as hex: makes file names of names
//   ids/ID         the subject's key, as hex
//   names/MAC      the id of the subject with the name of that MAC
//   erasing/ID     basis and MAC: the keys are being destroyed, the record is still to be written
#include "ledger/subjects.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"
#include "ledger/internal/files.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/record.h"

namespace etalon::ledger {

namespace {

constexpr std::size_t kFileBytesMax = 256;
constexpr std::size_t kMacDigits = 64;

/// A line without its end. Errors: invalid.
std::string read_line(const std::filesystem::path& path) {
    std::string text = read_private_file(path, kFileBytesMax);
    if (text.empty() || text.back() != '\n') {
        throw Error(ExitCode::invalid, fmt::format("{} is no key file", printable(path.string())));
    }
    text.pop_back();
    return text;
}

std::string read_hex(const std::filesystem::path& path, std::size_t n_digits) {
    std::string text = read_line(path);
    if (!is_hex(text, n_digits)) {
        throw Error(ExitCode::invalid, fmt::format("{} is no key file", printable(path.string())));
    }
    return text;
}

Key read_or_make_secret(const std::filesystem::path& path) {
    write_new_file(path, to_hex(random_key().bytes) + "\n");
    return key_of_hex(read_hex(path, 2 * sizeof(Key::bytes)));
}

}  // namespace

std::string tenant_subject(std::string_view tenant) {
    return fmt::format("tenant:{}", tenant);
}

std::string named_subject(std::string_view tenant, std::string_view name) {
    return fmt::format("subject:{}:{}", tenant, name);
}

Subjects::Subjects(std::filesystem::path folder) : folder_(std::move(folder)) {
    for (const char* part : {"ids", "names", "erasing"})
        make_private_folder(folder_ / part);
    secret_ = read_or_make_secret(folder_ / "secret");
}

std::filesystem::path Subjects::path_of(std::string_view name) const {
    return folder_ / "names" / to_hex(mac(fmt::format("name\n{}", name)));
}

std::filesystem::path Subjects::id_path(const std::string& id) const {
    ETALON_ASSERT(is_hex(id, kIdDigits));
    return folder_ / "ids" / id;
}

std::optional<Subject> Subjects::find(std::string_view name) const {
    const std::filesystem::path path = path_of(name);
    if (!std::filesystem::exists(path)) return std::nullopt;
    const std::string id = read_hex(path, kIdDigits);
    // The key can be gone while its erasure is under way: the name has no subject then.
    if (!std::filesystem::exists(id_path(id))) return std::nullopt;
    if (std::filesystem::exists(folder_ / "erasing" / id)) return std::nullopt;
    return Subject{id, key_of_hex(read_hex(id_path(id), 2 * sizeof(Key::bytes)))};
}

Subject Subjects::get(std::string_view name) {
    if (auto found = find(name)) return *found;
    const std::filesystem::path path = path_of(name);
    if (std::filesystem::exists(path)) destroy_file(path);  // of an erasure under way
    Subject subject{random_id(), random_key()};
    write_new_file(id_path(subject.id), to_hex(subject.key.bytes) + "\n");
    write_new_file(path, subject.id + "\n");
    return subject;
}

std::optional<std::vector<Subject>> Subjects::with_ids(const std::vector<std::string>& ids) const {
    std::vector<Subject> subjects;
    for (const std::string& id : ids) {
        const bool gone = !std::filesystem::exists(id_path(id)) ||
                          std::filesystem::exists(folder_ / "erasing" / id);
        if (gone) return std::nullopt;
        subjects.push_back({id, key_of_hex(read_hex(id_path(id), 2 * sizeof(Key::bytes)))});
    }
    return subjects;
}

std::optional<std::string> Subjects::begin_erase(std::string_view name, std::string_view basis) {
    const auto subject = find(name);
    if (!subject) return std::nullopt;
    const std::string mac_text = path_of(name).filename().string();
    write_new_file(folder_ / "erasing" / subject->id, fmt::format("{} {}\n", basis, mac_text));
    return subject->id;
}

std::vector<Subjects::Erasure> Subjects::begun_erasures() {
    std::vector<Erasure> erasures;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "erasing")) {
        const std::string id = entry.path().filename().string();
        if (!is_hex(id, kIdDigits)) continue;  // a draft of write_new_file
        const std::string line = read_line(entry.path());
        const std::size_t space = line.find(' ');
        const std::string mac_text = space == std::string::npos ? "" : line.substr(space + 1);
        if (!is_hex(mac_text, kMacDigits)) {
            throw Error(ExitCode::invalid,
                        fmt::format("{} is no erasure", printable(entry.path().string())));
        }
        destroy_file(id_path(id));
        // The name may have a new subject already.
        const std::filesystem::path name = folder_ / "names" / mac_text;
        if (std::filesystem::exists(name) && read_line(name) == id) destroy_file(name);
        erasures.push_back({id, line.substr(0, space)});
    }
    std::sort(erasures.begin(), erasures.end(),
              [](const Erasure& a, const Erasure& b) { return a.id < b.id; });
    return erasures;
}

void Subjects::end_erase(const std::string& id) {
    ETALON_ASSERT(is_hex(id, kIdDigits));
    destroy_file(folder_ / "erasing" / id);
}

}  // namespace etalon::ledger

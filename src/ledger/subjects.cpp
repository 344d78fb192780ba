// SPDX-License-Identifier: Apache-2.0
// Files of the key folder, each of mode 0600:
//   secret         32 bytes as hex: makes file names of names
//   ids/ID         the subject's key, as hex
//   names/MAC      the id of the subject with the name of that MAC
//   past/ID        the MAC of the name that had this id before
//   holds/MAC      why the name must not be erased
//   erasing/ID     basis, MAC, reason: the key is being destroyed, the record still to be written
//   lock           held by who changes the others, and by who must find them unchanged
//   erased         the journal of erasures (ledger/erase_journal.h)
#include "ledger/subjects.h"

#include <algorithm>
#include <chrono>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/error.h"
#include "ledger/internal/files.h"
#include "ledger/json.h"
#include "ledger/limits.h"
#include "ledger/record.h"

namespace etalon::ledger {

namespace {

constexpr std::size_t kSubjectFileBytesMax = 2 * kNameBytesMax;  // an erasure has a reason
constexpr std::size_t kMacDigits = 64;

/// A line without its end. Errors: invalid.
std::string read_line(const std::filesystem::path& path) {
    std::string text = read_private_file(path, kSubjectFileBytesMax);
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

/// Only keys are overwritten: a crash between that and the removal would leave a file that is none,
/// and the ledger would not open until somebody looked at it.
void remove_file(const std::filesystem::path& path) {
    if (std::filesystem::remove(path)) sync_folder(path.parent_path());
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
    for (const char* part : {"ids", "names", "past", "holds", "erasing"})
        make_private_folder(folder_ / part);
    const FolderLock lock(folder_);  // two programs may begin it
    secret_ = read_or_make_secret(folder_ / "secret");
}

std::string Subjects::name_mac(std::string_view name) const {
    return to_hex(mac(fmt::format("name\n{}", name)));
}

std::filesystem::path Subjects::path_of(std::string_view name) const {
    return folder_ / "names" / name_mac(name);
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
    const FolderLock lock(folder_);
    if (auto found = find(name)) return *found;
    const std::filesystem::path path = path_of(name);
    if (std::filesystem::exists(path)) remove_file(path);  // of an erasure under way
    Subject subject{random_id(), random_key()};
    write_new_file(id_path(subject.id), to_hex(subject.key.bytes) + "\n");
    write_new_file(path, subject.id + "\n");
    return subject;
}

std::optional<std::vector<Subject>> Subjects::with_ids(const std::vector<std::string>& ids) const {
    const FolderLock lock(folder_);
    std::vector<Subject> subjects;
    for (const std::string& id : ids) {
        const bool gone = !std::filesystem::exists(id_path(id)) ||
                          std::filesystem::exists(folder_ / "erasing" / id);
        if (gone) return std::nullopt;
        subjects.push_back({id, key_of_hex(read_hex(id_path(id), 2 * sizeof(Key::bytes)))});
    }
    return subjects;
}

std::vector<Subjects::Entry> Subjects::entries() const {
    std::vector<Entry> entries;
    for (const bool retired : {false, true}) {
        for (const auto& file :
             std::filesystem::directory_iterator(folder_ / (retired ? "past" : "names"))) {
            const std::string name = file.path().filename().string();
            if (!is_hex(name, retired ? kIdDigits : kMacDigits)) continue;  // a draft
            const std::string content = read_hex(file.path(), retired ? kMacDigits : kIdDigits);
            Entry entry = retired ? Entry{name, content, true} : Entry{content, name, false};
            if (std::filesystem::exists(id_path(entry.id))) entries.push_back(std::move(entry));
        }
    }
    // A crash in retire() can leave an id in both folders: it is the present one still.
    std::stable_sort(entries.begin(), entries.end(),
                     [](const Entry& a, const Entry& b) { return a.id < b.id; });
    const auto same = [](const Entry& a, const Entry& b) { return a.id == b.id; };
    entries.erase(std::unique(entries.begin(), entries.end(), same), entries.end());
    return entries;
}

std::vector<std::string> Subjects::ids_of(std::string_view name) const {
    const std::string mac_text = name_mac(name);
    std::vector<std::string> ids;
    for (const Entry& entry : entries())
        if (entry.name_mac == mac_text) ids.push_back(entry.id);
    return ids;
}

void Subjects::retire(const Entry& entry) {
    if (entry.retired) return;
    const FolderLock lock(folder_);
    const std::filesystem::path name = folder_ / "names" / entry.name_mac;
    // The name may have another id by now, or none.
    if (!std::filesystem::exists(name) || read_line(name) != entry.id) return;
    const std::filesystem::path next = name.string() + ".next";
    write_new_file(folder_ / "past" / entry.id, entry.name_mac + "\n");
    const Subject subject{random_id(), random_key()};
    write_new_file(id_path(subject.id), to_hex(subject.key.bytes) + "\n");
    write_file(next, subject.id + "\n");
    sync_files({next});
    // The name has one id or the other at every moment: requests go on meanwhile.
    std::filesystem::rename(next, name);
    sync_folder(name.parent_path());
}

std::uint64_t Subjects::made(const std::string& id) const {
    struct stat status {};
    if (::stat(id_path(id).c_str(), &status) != 0) {
        throw Error(ExitCode::not_found, fmt::format("there is no key {}", id));
    }
    return static_cast<std::uint64_t>(status.st_mtim.tv_sec);
}

void Subjects::hold(std::string_view name, std::string_view reason) {
    const std::filesystem::path path = folder_ / "holds" / name_mac(name);
    write_file(path, plain(reason) + "\n");
    sync_files({path});
}

bool Subjects::release(std::string_view name) {
    const std::filesystem::path path = folder_ / "holds" / name_mac(name);
    const bool was_held = std::filesystem::exists(path);
    remove_file(path);
    return was_held;
}

std::optional<std::string> Subjects::hold_of(std::string_view name) const {
    return hold_of_mac(name_mac(name));
}

std::optional<std::string> Subjects::hold_of_mac(const std::string& mac_text) const {
    const std::filesystem::path path = folder_ / "holds" / mac_text;
    if (!std::filesystem::exists(path)) return std::nullopt;
    return read_line(path);
}

std::optional<std::string> Subjects::begin_erase(std::string_view name, std::string_view basis) {
    const auto subject = find(name);
    if (!subject) return std::nullopt;
    begin_erase({subject->id, name_mac(name), false}, basis, "");
    return subject->id;
}

void Subjects::begin_erase(const Entry& entry, std::string_view basis, std::string_view reason) {
    const std::string why = plain(reason);
    write_new_file(folder_ / "erasing" / entry.id,
                   fmt::format("{} {} {}\n", basis, entry.name_mac, why));
}

void Subjects::destroy(const std::string& id, const std::string& mac_text) const {
    destroy_file(id_path(id));
    remove_file(folder_ / "past" / id);
    // The name may have a new subject already.
    const std::filesystem::path name = folder_ / "names" / mac_text;
    if (std::filesystem::exists(name) && read_line(name) == id) remove_file(name);
}

std::vector<Subjects::Erasure> Subjects::begun_erasures() {
    std::vector<Erasure> erasures;
    for (const auto& entry : std::filesystem::directory_iterator(folder_ / "erasing")) {
        const std::string id = entry.path().filename().string();
        if (!is_hex(id, kIdDigits)) continue;  // a draft of write_new_file
        const FolderLock lock(folder_);        // of one at a time: requests go on between them
        if (!std::filesystem::exists(entry.path())) continue;  // another process has ended it
        const std::string line = read_line(entry.path());
        const std::size_t space = std::min(line.find(' '), line.size());
        const std::string mac_text = line.substr(std::min(space + 1, line.size()), kMacDigits);
        const std::size_t reason = std::min(space + 1 + kMacDigits + 1, line.size());
        if (!is_hex(mac_text, kMacDigits)) {
            throw Error(ExitCode::invalid,
                        fmt::format("{} is no erasure", printable(entry.path().string())));
        }
        // The journal comes first: a backup that is restored later must find the erasure there.
        journal().add({id, mac_text, line.substr(0, space), line.substr(reason), unix_time_us()});
        destroy(id, mac_text);
        erasures.push_back({id, line.substr(0, space)});
    }
    std::sort(erasures.begin(), erasures.end(),
              [](const Erasure& a, const Erasure& b) { return a.id < b.id; });
    return erasures;
}

std::size_t Subjects::replay_journal() {
    std::size_t n_destroyed = 0;
    for (const ErasedSubject& erased : journal().read()) {
        const FolderLock lock(folder_);
        if (std::filesystem::exists(id_path(erased.id))) ++n_destroyed;
        destroy(erased.id, erased.name_mac);
    }
    return n_destroyed;
}

void Subjects::end_erase(const std::string& id) {
    ETALON_ASSERT(is_hex(id, kIdDigits));
    const FolderLock lock(folder_);
    remove_file(folder_ / "erasing" / id);
}

}  // namespace etalon::ledger

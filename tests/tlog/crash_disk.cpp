// SPDX-License-Identifier: Apache-2.0
// Names and contents are kept twice: as programs see them, and as they are safe.
#include "tlog/crash_disk.h"

#include <algorithm>
#include <gtest/gtest.h>

namespace etalon::tlog {

namespace {

std::string folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == path.npos ? "" : path.substr(0, slash);
}

}  // namespace

void CrashDisk::change() {
    ++n_changes_;
    if (calls_left_ > 0 && --calls_left_ == 0) throw PowerLost{};
}

CrashDisk::File& CrashDisk::opened(const std::string& path) {
    EXPECT_TRUE(folder_of(path).empty() || folders_.count(folder_of(path))) << path;
    File& file = names_[path];
    if (!file) file = std::make_shared<Content>();
    return file;
}

void CrashDisk::restart(std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::set<std::string> paths;
    for (const auto* names : {&names_, &safe_names_}) {
        for (const auto& [path, file] : *names)
            paths.insert(path);
    }
    std::map<std::string, File> after;
    for (const std::string& path : paths) {
        const File now = names_.count(path) ? names_.at(path) : nullptr;
        const File safe = safe_names_.count(path) ? safe_names_.at(path) : nullptr;
        const File file = now == safe || random() % 2 == 0 ? safe : now;
        if (file) after[path] = file;
    }
    std::set<Content*> done;
    for (const auto& [path, file] : after) {
        if (!done.insert(file.get()).second || file->now == file->safe) continue;
        switch (random() % 4) {
            case 0:
                file->now = file->safe;
                break;
            case 1:
                break;  // all of it arrived
            case 2:
                file->now.resize(random() % (file->now.size() + 1));
                break;
            default: {  // the length arrived, some of the bytes did not
                if (file->now.size() <= file->safe.size()) break;
                const std::size_t unsafe = file->now.size() - file->safe.size();
                const std::size_t from = file->safe.size() + random() % unsafe;
                std::fill(file->now.begin() + static_cast<std::ptrdiff_t>(from), file->now.end(),
                          '\0');
            }
        }
        // Bytes that were safe stay as long as the file was only appended to.
        if (file->now.compare(0, file->safe.size(), file->safe) != 0 &&
            file->safe.compare(0, file->now.size(), file->now) == 0) {
            file->now = file->safe;
        }
    }
    for (const auto& [path, file] : after)
        file->safe = file->now;
    names_ = safe_names_ = after;
    calls_left_ = 0;
}

bool CrashDisk::exists(const std::string& path) {
    return names_.count(path) + folders_.count(path) > 0;
}

std::optional<std::string> CrashDisk::read(const std::string& path, std::size_t bytes_max) {
    const auto found = names_.find(path);
    if (found == names_.end()) return std::nullopt;
    EXPECT_LE(found->second->now.size(), bytes_max) << path;
    return found->second->now;
}

std::vector<std::string> CrashDisk::list(const std::string& folder) {
    std::vector<std::string> names;
    for (const auto& [path, file] : names_) {
        if (folder_of(path) == folder) names.push_back(path.substr(folder.size() + 1));
    }
    return names;
}

void CrashDisk::make_folder(const std::string& folder) {
    change();
    for (std::string path = folder; !path.empty(); path = folder_of(path))
        folders_.insert(path);
}

void CrashDisk::write(const std::string& path, std::string_view bytes) {
    EXPECT_FALSE(path.starts_with("tile/") && exists(path)) << "others read " << path;
    opened(path)->now = bytes;  // before the power goes: some of it may arrive
    change();
}

void CrashDisk::append(const std::string& path, std::string_view bytes) {
    opened(path)->now += bytes;
    change();
}

void CrashDisk::sync(const std::string& path) {
    change();
    const File& file = opened(path);
    file->safe = file->now;
}

void CrashDisk::sync_folder(const std::string& folder) {
    change();
    for (auto it = safe_names_.begin(); it != safe_names_.end();) {
        const bool gone = folder_of(it->first) == folder && names_.count(it->first) == 0;
        it = gone ? safe_names_.erase(it) : std::next(it);
    }
    for (const auto& [path, file] : names_) {
        if (folder_of(path) == folder) safe_names_[path] = file;
    }
}

void CrashDisk::sync_all() {
    change();
    for (const auto& [path, file] : names_)
        file->safe = file->now;
    safe_names_ = names_;
}

void CrashDisk::rename(const std::string& from, const std::string& to) {
    names_[to] = opened(from);
    names_.erase(from);
    if (to == "checkpoint") checkpoints_seen_.insert(names_[to]->now);
    change();
}

void CrashDisk::remove(const std::string& path) {
    names_.erase(path);
    change();
}

void CrashDisk::remove_folder(const std::string& folder) {
    for (const std::string& name : list(folder))
        names_.erase(folder + "/" + name);
    folders_.erase(folder);
    change();
}

}  // namespace etalon::tlog

// SPDX-License-Identifier: Apache-2.0
// What the writer of a log asks of a file system, so that tests can lose power in the middle.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace etalon::tlog {

/// Paths are relative to the log's folder. A write is safe after sync() of the file, and its name
/// after sync_folder() of the folder that holds it; until then a crash may lose either, or part.
/// Errors of all: failure (the system's reason).
class Disk {
  public:
    virtual ~Disk() = default;
    /// Whether there is a file or folder.
    virtual bool exists(const std::string& path) = 0;
    /// nullopt: no such file. Errors: invalid (more than `bytes_max`).
    virtual std::optional<std::string> read(const std::string& path, std::size_t bytes_max) = 0;
    /// Names of the files in a folder, sorted; empty where there is no folder.
    virtual std::vector<std::string> list(const std::string& folder) = 0;
    /// Makes the folder and those above it; each is safe at once.
    virtual void make_folder(const std::string& folder) = 0;
    /// Replaces the file's content.
    virtual void write(const std::string& path, std::string_view bytes) = 0;
    virtual void append(const std::string& path, std::string_view bytes) = 0;
    virtual void sync(const std::string& path) = 0;
    virtual void sync_folder(const std::string& folder) = 0;
    /// All files and names at once: cheaper than many of the two before.
    virtual void sync_all() = 0;
    virtual void rename(const std::string& from, const std::string& to) = 0;
    virtual void remove(const std::string& path) = 0;
    /// Removes a folder and the files in it; it may be gone already.
    virtual void remove_folder(const std::string& folder) = 0;
};

/// A folder of this machine, made with mode 0700 when it is not there. One process at a time
/// writes: a lock is held while the object lives. Errors: unavailable (another one has the lock).
class FolderDisk final : public Disk {
  public:
    explicit FolderDisk(std::filesystem::path folder);
    ~FolderDisk() override;
    FolderDisk(const FolderDisk&) = delete;
    FolderDisk& operator=(const FolderDisk&) = delete;

    bool exists(const std::string& path) override;
    std::optional<std::string> read(const std::string& path, std::size_t bytes_max) override;
    std::vector<std::string> list(const std::string& folder) override;
    void make_folder(const std::string& folder) override;
    void write(const std::string& path, std::string_view bytes) override;
    void append(const std::string& path, std::string_view bytes) override;
    void sync(const std::string& path) override;
    void sync_folder(const std::string& folder) override;
    void sync_all() override;
    void rename(const std::string& from, const std::string& to) override;
    void remove(const std::string& path) override;
    void remove_folder(const std::string& folder) override;

  private:
    class File;
    void put(const std::string& path, int flags, std::string_view bytes);

    std::filesystem::path folder_;
    int lock_ = -1;
};

}  // namespace etalon::tlog

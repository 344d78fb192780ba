// SPDX-License-Identifier: Apache-2.0
// A disk in memory that loses power: what was not synced may be gone, there, or half there.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "tlog/disk.h"

namespace etalon::tlog {

struct PowerLost {};

class CrashDisk final : public Disk {
  public:
    /// Throws PowerLost instead of the `n`-th change from now on; 0: never.
    void lose_power_at(int n) { calls_left_ = n; }
    /// What is there after the power came back: chosen by `seed` among all that may be.
    void restart(std::uint64_t seed);
    int n_changes() const { return n_changes_; }
    /// Any of its bytes may be read by others at any time.
    const std::set<std::string>& checkpoints_seen() const { return checkpoints_seen_; }

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
    struct Content {
        std::string now;
        std::string safe;
    };
    using File = std::shared_ptr<Content>;

    void change();
    File& opened(const std::string& path);

    std::map<std::string, File> names_;
    std::map<std::string, File> safe_names_;
    std::set<std::string> folders_;
    std::set<std::string> checkpoints_seen_;
    int calls_left_ = 0;
    int n_changes_ = 0;
};

}  // namespace etalon::tlog

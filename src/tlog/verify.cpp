// SPDX-License-Identifier: Apache-2.0
// One pass over the entries: the frontier gives the root, a buffer a level gives the tiles.
#include "tlog/verify.h"

#include <array>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::tlog {

namespace {

/// Compares the tiles of one level after the other with what the entries give.
class TileCheck {
  public:
    explicit TileCheck(const FileSource& files) : files_(files) {}

    void append(int level, const Hash& hash) {
        std::vector<Hash>& hashes = tiles_[static_cast<std::size_t>(level)].hashes;
        hashes.push_back(hash);
        if (hashes.size() == kTileWidth) close(level);
    }

    void close_all() {
        for (int level = 0; level < kTileLevels; ++level) {
            if (!tiles_[static_cast<std::size_t>(level)].hashes.empty()) close(level);
        }
    }

    std::uint64_t n_tiles() const noexcept { return n_tiles_; }

  private:
    struct Tile {
        std::uint64_t index = 0;
        std::vector<Hash> hashes;
    };

    void close(int level) {
        Tile& tile = tiles_[static_cast<std::size_t>(level)];
        const std::string bytes = read_tile(files_, level, tile.index, tile.hashes.size());
        const std::string_view want(reinterpret_cast<const char*>(tile.hashes.data()),
                                    tile.hashes.size() * sizeof(Hash));
        if (bytes != want) {
            throw Error(ExitCode::invalid,
                        fmt::format("{} has other hashes than the entries",
                                    tile_path(level, tile.index, tile.hashes.size())));
        }
        ++n_tiles_;
        if (tile.hashes.size() < kTileWidth) return;
        const Hash top = tile_root(bytes);
        tile.hashes.clear();
        ++tile.index;
        if (level + 1 < kTileLevels) append(level + 1, top);
    }

    const FileSource& files_;
    std::array<Tile, kTileLevels> tiles_;
    std::uint64_t n_tiles_ = 0;
};

void check_held(const Checkpoint& held, const Checkpoint& now) {
    if (held.origin != now.origin) {
        throw Error(ExitCode::invalid, "the checkpoint that is held is of another log");
    }
    if (held.size > now.size) {
        throw Error(ExitCode::invalid,
                    fmt::format("the log has {} entries, it had {} before", now.size, held.size));
    }
}

}  // namespace

LogReport verify_log(const FileSource& files, const Policy& policy,
                     const std::optional<Checkpoint>& held,
                     const std::function<void(std::uint64_t, std::string_view)>& take) {
    const std::optional<std::string> signed_text = files("checkpoint");
    if (!signed_text) throw Error(ExitCode::invalid, "the log has no checkpoint");
    LogReport report;
    report.checkpoint = open_checkpoint(parse_note(*signed_text), policy);
    const Checkpoint& now = report.checkpoint;
    if (held) check_held(*held, now);
    Frontier frontier;
    TileCheck tiles(files);
    const auto check_held_root = [&] {
        if (held && held->size == frontier.size() && held->root != frontier.root()) {
            throw Error(ExitCode::invalid,
                        fmt::format("the first {} entries are not those of the checkpoint that is "
                                    "held",
                                    held->size));
        }
    };
    check_held_root();
    read_entries(files, 0, now.size, now.size, [&](std::uint64_t index, std::string_view entry) {
        const Hash leaf = leaf_hash(entry);
        frontier.append(leaf);
        tiles.append(0, leaf);
        check_held_root();
        if (take) take(index, entry);
    });
    if (frontier.root() != now.root) {
        throw Error(ExitCode::invalid, "the entries do not give the checkpoint's root");
    }
    tiles.close_all();
    report.n_tiles = tiles.n_tiles();
    return report;
}

}  // namespace etalon::tlog

// SPDX-License-Identifier: Apache-2.0
// Nodes and entries of a log from its files, wherever they lie.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/tile.h"
#include "tlog/tree.h"

namespace etalon::tlog {

/// The bytes of a file of the log by its path ("tile/0/000.p/3"), nullopt where there is none.
using FileSource = std::function<std::optional<std::string>(const std::string& path)>;

/// The bytes of exactly `width` hashes or entries. A partial tile may be gone once the full one is
/// there: the beginning of that is given then. Errors: invalid (neither is there, other sizes).
std::string read_tile(const FileSource& files, int level, std::uint64_t index, std::uint64_t width);
std::string read_bundle(const FileSource& files, std::uint64_t index, std::uint64_t width);

/// Nodes of a tree of `size` entries. The files may be hostile: what is built from them is checked
/// against a signed root afterwards. Keeps the last tile of each level.
class TileReader final : public NodeReader {
  public:
    TileReader(FileSource files, std::uint64_t size);

    /// Errors: invalid (a tile is missing or has another size).
    Hash node(int level, std::uint64_t index) override;
    std::uint64_t size() const noexcept { return size_; }

  private:
    struct Kept {
        std::uint64_t index = UINT64_MAX;
        std::string bytes;
    };

    FileSource files_;
    std::uint64_t size_;
    std::array<Kept, kTileLevels> kept_;
};

/// Calls `take(index, entry)` for entries [begin, end). Errors: invalid; what `take` throws.
void read_entries(const FileSource& files, std::uint64_t begin, std::uint64_t end,
                  std::uint64_t size,
                  const std::function<void(std::uint64_t, std::string_view)>& take);

}  // namespace etalon::tlog

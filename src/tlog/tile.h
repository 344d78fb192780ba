// SPDX-License-Identifier: Apache-2.0
// The files of a log (C2SP tlog-tiles): paths of tiles and of bundles of entries, and the latter's
// bytes. A tile holds up to 256 hashes of one level, a bundle up to 256 entries.
//   tile_path(0, 1234067, 256) == "tile/0/x001/x234/067"
//   tile_path(1, 0, 3)         == "tile/1/000.p/3"
//   entries_path(0, 17)        == "tile/entries/000.p/17"
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tlog/tree.h"

namespace etalon::tlog {

inline constexpr int kTileHeight = 8;
inline constexpr std::uint64_t kTileWidth = 256;
/// Levels of tiles of the largest tree.
inline constexpr int kTileLevels = 8;
/// A length before each entry has two bytes.
inline constexpr std::size_t kEntryBytesMax = 65535;
inline constexpr std::size_t kBundleBytesMax = kTileWidth * (kEntryBytesMax + 2);
inline constexpr std::size_t kTileBytesMax = kTileWidth * sizeof(Hash);

/// `width` in [1, 256]; less than 256: a partial tile.
std::string tile_path(int level, std::uint64_t index, std::uint64_t width);
std::string entries_path(std::uint64_t index, std::uint64_t width);

/// Hashes of tile `index` of `level` in a tree of `size` entries: 0 where it has no such tile.
std::uint64_t tile_width(int level, std::uint64_t index, std::uint64_t size) noexcept;

/// Hash `i` of the bytes of a tile, which has it.
Hash hash_at(std::string_view tile, std::uint64_t i);
/// The root over the hashes in `tile`, a power of two of them.
Hash tile_root(std::string_view tile);

/// The bytes of a bundle: each entry after its length, big-endian.
void append_entry(std::string_view entry, std::string& bundle);

/// The first `n` entries of a bundle, which may hold more. Errors: invalid.
std::vector<std::string_view> parse_entries(std::string_view bundle, std::uint64_t n);

}  // namespace etalon::tlog

// SPDX-License-Identifier: Apache-2.0
// Paths and bundles of C2SP tlog-tiles.
#include "tlog/tile.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::tlog {

namespace {

/// 1234067 is x001/x234/067: no folder has more than a thousand names.
std::string numbered(std::uint64_t index) {
    std::string text = fmt::format("{:03}", index % 1000);
    for (std::uint64_t rest = index / 1000; rest > 0; rest /= 1000)
        text = fmt::format("x{:03}/{}", rest % 1000, text);
    return text;
}

std::string with_width(std::string path, std::uint64_t width) {
    ETALON_ASSERT(width >= 1 && width <= kTileWidth);
    if (width < kTileWidth) path += fmt::format(".p/{}", width);
    return path;
}

}  // namespace

std::string tile_path(int level, std::uint64_t index, std::uint64_t width) {
    ETALON_ASSERT(level >= 0 && level < kTileLevels);
    return with_width(fmt::format("tile/{}/{}", level, numbered(index)), width);
}

std::string entries_path(std::uint64_t index, std::uint64_t width) {
    return with_width("tile/entries/" + numbered(index), width);
}

std::uint64_t tile_width(int level, std::uint64_t index, std::uint64_t size) noexcept {
    const std::uint64_t n_hashes = size >> (kTileHeight * level);
    if (index >= (n_hashes + kTileWidth - 1) / kTileWidth) return 0;
    return std::min(kTileWidth, n_hashes - index * kTileWidth);
}

void append_entry(std::string_view entry, std::string& bundle) {
    ETALON_ASSERT(entry.size() <= kEntryBytesMax);
    bundle += static_cast<char>(entry.size() >> 8);
    bundle += static_cast<char>(entry.size() & 255);
    bundle += entry;
}

std::vector<std::string_view> parse_entries(std::string_view bundle, std::uint64_t n) {
    ETALON_ASSERT(n <= kTileWidth);
    std::vector<std::string_view> entries;
    std::string_view rest = bundle;
    for (std::uint64_t i = 0; i < n; ++i) {
        if (rest.size() < 2) break;
        const std::size_t size = std::size_t{static_cast<unsigned char>(rest[0])} << 8 |
                                 static_cast<unsigned char>(rest[1]);
        if (rest.size() - 2 < size) break;
        entries.push_back(rest.substr(2, size));
        rest.remove_prefix(2 + size);
    }
    if (entries.size() != n) {
        throw Error(
            ExitCode::invalid,
            fmt::format("a bundle holds {} whole entries, {} belong there", entries.size(), n));
    }
    return entries;
}

}  // namespace etalon::tlog

// SPDX-License-Identifier: Apache-2.0
// Paths and bundles of C2SP tlog-tiles.
#include "tlog/tile.h"

#include <algorithm>
#include <bit>
#include <fmt/format.h>

#include "base/error.h"
#include "tlog/internal/bytes.h"

namespace etalon::tlog {

namespace {

constexpr std::size_t kLengthBytes = 2;  // before each entry

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

Hash hash_at(std::string_view tile, std::uint64_t i) {
    ETALON_ASSERT(i < tile.size() / sizeof(Hash));
    Hash hash{};
    std::copy_n(tile.data() + i * sizeof(Hash), sizeof(Hash), reinterpret_cast<char*>(hash.data()));
    return hash;
}

Hash tile_root(std::string_view tile) {
    std::vector<Hash> row(tile.size() / sizeof(Hash));
    ETALON_ASSERT(std::has_single_bit(row.size()));
    for (std::size_t i = 0; i < row.size(); ++i)
        row[i] = hash_at(tile, i);
    for (; row.size() > 1; row.resize(row.size() / 2)) {
        for (std::size_t i = 0; i < row.size() / 2; ++i)
            row[i] = node_hash(row[2 * i], row[2 * i + 1]);
    }
    return row.front();
}

void append_entry(std::string_view entry, std::string& bundle) {
    ETALON_ASSERT(entry.size() <= kEntryBytesMax);
    bundle += big_endian(entry.size(), kLengthBytes);
    bundle += entry;
}

std::vector<std::string_view> parse_entries(std::string_view bundle, std::uint64_t n) {
    ETALON_ASSERT(n <= kTileWidth);
    std::vector<std::string_view> entries;
    std::string_view rest = bundle;
    for (std::uint64_t i = 0; i < n; ++i) {
        if (rest.size() < kLengthBytes) break;
        const std::uint64_t size = from_big_endian(rest.substr(0, kLengthBytes));
        rest.remove_prefix(kLengthBytes);
        if (rest.size() < size) break;
        entries.push_back(rest.substr(0, size));
        rest.remove_prefix(size);
    }
    if (entries.size() != n) {
        throw Error(
            ExitCode::invalid,
            fmt::format("a bundle holds {} whole entries, {} belong there", entries.size(), n));
    }
    return entries;
}

}  // namespace etalon::tlog

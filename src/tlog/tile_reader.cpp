// SPDX-License-Identifier: Apache-2.0
// Tiles and bundles, read as hostile.
#include "tlog/tile_reader.h"

#include <algorithm>
#include <fmt/format.h>

#include "base/error.h"

namespace etalon::tlog {

namespace {

struct Found {
    std::string bytes;
    bool exact;  // of the width that was asked for, not of the full tile in its place
};

template <typename Path>
Found find(const FileSource& files, const Path& path_of, std::uint64_t width) {
    if (std::optional<std::string> bytes = files(path_of(width))) return {std::move(*bytes), true};
    if (width < kTileWidth) {
        if (std::optional<std::string> bytes = files(path_of(kTileWidth)))
            return {std::move(*bytes), false};
    }
    throw Error(ExitCode::invalid, fmt::format("the log lacks {}", path_of(width)));
}

[[noreturn]] void wrong_size(const std::string& path, std::size_t n_bytes) {
    throw Error(ExitCode::invalid, fmt::format("{} has {} bytes", path, n_bytes));
}

}  // namespace

std::string read_tile(const FileSource& files, int level, std::uint64_t index,
                      std::uint64_t width) {
    const auto path_of = [&](std::uint64_t w) { return tile_path(level, index, w); };
    Found found = find(files, path_of, width);
    const std::size_t whole = (found.exact ? width : kTileWidth) * sizeof(Hash);
    if (found.bytes.size() != whole) wrong_size(path_of(width), found.bytes.size());
    found.bytes.resize(width * sizeof(Hash));
    return std::move(found.bytes);
}

std::string read_bundle(const FileSource& files, std::uint64_t index, std::uint64_t width) {
    const auto path_of = [&](std::uint64_t w) { return entries_path(index, w); };
    Found found = find(files, path_of, width);
    if (found.bytes.size() > kBundleBytesMax) wrong_size(path_of(width), found.bytes.size());
    const std::vector<std::string_view> entries = parse_entries(found.bytes, width);
    const std::string_view last = entries.back();
    const auto used = static_cast<std::size_t>(last.data() + last.size() - found.bytes.data());
    if (found.exact && used != found.bytes.size()) wrong_size(path_of(width), found.bytes.size());
    found.bytes.resize(used);
    return std::move(found.bytes);
}

TileReader::TileReader(FileSource files, std::uint64_t size)
    : files_(std::move(files)), size_(size) {
    ETALON_ASSERT(size <= kTreeSizeMax);
}

Hash TileReader::node(int level, std::uint64_t index) {
    ETALON_ASSERT(level >= 0 && level < kTileLevels * kTileHeight);
    ETALON_ASSERT(index < size_ >> level);
    const int tile_level = level / kTileHeight;
    const int inner = level % kTileHeight;  // levels above the tile's own hashes
    const std::uint64_t first = index << inner;
    const std::uint64_t tile = first / kTileWidth;
    Kept& kept = kept_[static_cast<std::size_t>(tile_level)];
    if (kept.index != tile) {
        kept.index = UINT64_MAX;
        kept.bytes = read_tile(files_, tile_level, tile, tile_width(tile_level, tile, size_));
        kept.index = tile;
    }
    const std::size_t n_bytes = sizeof(Hash) << inner;
    return tile_root(
        std::string_view(kept.bytes).substr(first % kTileWidth * sizeof(Hash), n_bytes));
}

void read_entries(const FileSource& files, std::uint64_t begin, std::uint64_t end,
                  std::uint64_t size,
                  const std::function<void(std::uint64_t, std::string_view)>& take) {
    ETALON_ASSERT(begin <= end && end <= size);
    std::uint64_t next = begin;
    while (next < end) {
        const std::uint64_t bundle = next / kTileWidth;
        const std::uint64_t width = tile_width(0, bundle, size);
        const std::string bytes = read_bundle(files, bundle, width);
        const std::vector<std::string_view> entries = parse_entries(bytes, width);
        const std::uint64_t stop = std::min(end, bundle * kTileWidth + width);
        for (; next < stop; ++next)
            take(next, entries[next % kTileWidth]);
    }
}

}  // namespace etalon::tlog

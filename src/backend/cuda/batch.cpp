// SPDX-License-Identifier: Apache-2.0
// The tokens of a forward pass on the card: one copy there, the flags back.
#include "backend/cuda/batch.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <cuda_runtime_api.h>

#include "backend/cuda/common/error.h"
#include "base/error.h"

namespace etalon::backend::cuda {

namespace {

/// Appends arrays of 32-bit integers to the copy.
struct Writer {
    std::int32_t* words;
    std::size_t n = 0;

    std::size_t put(std::span<const std::int32_t> values) {
        const std::size_t at = n;
        std::copy(values.begin(), values.end(), words + n);
        n += values.size();
        return at;
    }
};

/// Page tables get room in powers of two from this on: the places of what is sent then change
/// seldom, and a recorded pass (graphs.h) reads them where they were.
constexpr std::size_t kPagesRoomMin = 64;

/// Runs of fewer tokens are attended to one by one.
constexpr std::size_t kTileTokensMin = 8;

/// Runs of tokens of one sequence as tiles of attention, or as single tokens.
struct Split {
    std::vector<std::int32_t> tiles;  // first, number
    std::vector<std::int32_t> wide_tiles;
    std::vector<std::int32_t> singles;

    Split(std::span<const std::int32_t> sequence_of, std::span<const std::int32_t> positions) {
        std::vector<Tile> wide;
        for (std::size_t begin = 0; begin < sequence_of.size();) {
            std::size_t end = begin + 1;
            while (end < sequence_of.size() && sequence_of[end] == sequence_of[begin])
                ++end;
            if (end - begin < kTileTokensMin) {
                for (std::size_t t = begin; t < end; ++t)
                    singles.push_back(static_cast<std::int32_t>(t));
            } else {
                cut(begin, end, kAttentionTileTokens, [&](const Tile& tile) {
                    tiles.push_back(tile.first);
                    tiles.push_back(tile.number);
                });
                cut(begin, end, kAttentionWideTokens,
                    [&](const Tile& tile) { wide.push_back(tile); });
            }
            begin = end;
        }
        // The longest contexts first: the multiprocessors then get about the same work.
        const auto last = [&](const Tile& tile) {
            return positions[static_cast<std::size_t>(tile.first + tile.number - 1)];
        };
        std::stable_sort(wide.begin(), wide.end(),
                         [&](const Tile& a, const Tile& b) { return last(a) > last(b); });
        for (const Tile& tile : wide) {
            wide_tiles.push_back(tile.first);
            wide_tiles.push_back(tile.number);
        }
    }

  private:
    struct Tile {
        std::int32_t first;
        std::int32_t number;
    };
    template <typename Take>
    static void cut(std::size_t begin, std::size_t end, std::size_t size, const Take& take) {
        for (std::size_t t = begin; t < end; t += size)
            take(Tile{static_cast<std::int32_t>(t),
                      static_cast<std::int32_t>(std::min(size, end - t))});
    }
};

/// Turns the rows that tokens name into their places among the tokens that are drawn; false: none
/// names one.
bool name_places(std::span<std::int32_t> tokens, const Draws* before) {
    bool some = false;
    for (std::int32_t& token : tokens) {
        if (!is_drawn_before(token)) continue;
        ETALON_ASSERT(before != nullptr);
        token = token_drawn_by(before->place_of(row_drawing(token)));
        some = true;
    }
    return some;
}

}  // namespace

bool HostBatch::holds(const Batch& batch) const noexcept {
    return batch.tokens.data() == tokens_ && batch.tokens.size() == n_tokens_;
}

std::uint8_t* HostBatch::host_flags() const noexcept {
    return reinterpret_cast<std::uint8_t*>(bytes_.data() + failed_offset_);
}

void HostBatch::send_flags(Stream stream) {
    if (flags_sent_) return;
    check(cudaMemcpyAsync(host_flags(), flags_, n_tokens_, cudaMemcpyDeviceToHost, stream),
          "flags from the card");
}

void HostBatch::arrived(const Batch& batch) const {
    std::memcpy(batch.failed.data(), host_flags(), batch.failed.size());
}

void DeviceBatch::send(const Batch& batch, const Draws* before, HostBatch& host, Stream stream) {
    const std::size_t n = batch.tokens.size();
    ETALON_ASSERT(n >= 1 && batch.positions.size() == n);
    ETALON_ASSERT(batch.sequence_of.size() == n && batch.failed.size() == n);
    std::size_t n_pages = 0;
    for (const auto& table : batch.page_tables)
        n_pages += table.size();
    n_pages = std::bit_ceil(std::max(n_pages, kPagesRoomMin));
    const Split split(batch.sequence_of, batch.positions);
    const std::size_t n_words = 3 * n + batch.page_tables.size() + n_pages + split.tiles.size() +
                                split.wide_tiles.size() + split.singles.size();
    host.failed_offset_ = n_words * sizeof(std::int32_t);
    const std::size_t bytes = host.failed_offset_ + n;
    host.bytes_.grow(bytes);
    if (bytes > device_.size()) {  // the pass before may still read it
        check(cudaStreamSynchronize(stream), "forward pass");
        device_.grow(bytes);
    }
    Writer writer{reinterpret_cast<std::int32_t*>(host.bytes_.data())};
    auto* words = reinterpret_cast<std::int32_t*>(device_.data());
    view_ = BatchView{};
    view_.tiles = words + writer.put(split.tiles);  // first: pairs are read together
    view_.wide_tiles = words + writer.put(split.wide_tiles);
    view_.singles = words + writer.put(split.singles);
    view_.n_tiles = static_cast<int>(split.tiles.size() / 2);
    view_.n_wide_tiles = static_cast<int>(split.wide_tiles.size() / 2);
    view_.n_singles = static_cast<int>(split.singles.size());
    const std::size_t tokens = writer.put(batch.tokens);
    view_.tokens = words + tokens;
    view_.positions = words + writer.put(batch.positions);
    view_.sequence_of = words + writer.put(batch.sequence_of);
    view_.table_begin = words + writer.n;
    std::int32_t begin = 0;
    for (const auto& table : batch.page_tables) {
        writer.put({&begin, 1});
        begin += static_cast<std::int32_t>(table.size());
    }
    view_.pages = words + writer.n;
    for (const auto& table : batch.page_tables)
        writer.put(table);
    view_.failed = reinterpret_cast<std::uint8_t*>(device_.data() + host.failed_offset_);
    view_.n_tokens = static_cast<int>(n);
    host.tokens_ = batch.tokens.data();
    host.n_tokens_ = n;
    host.flags_ = view_.failed;
    host.flags_sent_ = false;
    std::memcpy(host.host_flags(), batch.failed.data(), n);
    const bool follows = name_places({writer.words + tokens, n}, before);
    check(
        cudaMemcpyAsync(device_.data(), host.bytes_.data(), bytes, cudaMemcpyHostToDevice, stream),
        "batch to the card");
    if (follows) {
        launch_drawn_tokens(before->tokens(), before->vocab_size(), words + tokens, view_.failed,
                            view_.n_tokens, stream);
    }
}

}  // namespace etalon::backend::cuda

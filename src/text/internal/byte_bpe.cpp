// SPDX-License-Identifier: Apache-2.0
// Merging with a linked list of symbols and a heap of candidates; a candidate that lost one of its
// symbols to an earlier merge is recognised when it is taken from the heap, and skipped.
#include "text/internal/byte_bpe.h"

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "text/internal/vocabulary.h"

namespace etalon::text {
namespace {

constexpr std::uint64_t kEmptySlot = ~std::uint64_t{0};  // ids are never negative
constexpr std::int32_t kNone = -1;

std::uint64_t pair_of(std::int32_t left, std::int32_t right) noexcept {
    return std::uint64_t{static_cast<std::uint32_t>(left)} << 32 |
           static_cast<std::uint32_t>(right);
}

using Candidate = ByteBpe::Scratch::Candidate;

/// std heaps keep the largest element in front: later candidates are "less".
bool comes_later(const Candidate& a, const Candidate& b) noexcept {
    return a.order > b.order;
}

std::int32_t id_of(const std::unordered_map<std::string_view, std::int32_t>& ids,
                   const std::string& token, std::size_t rank) {
    const auto found = ids.find(token);
    if (found == ids.end()) {
        throw Error(ExitCode::invalid, "tokenizer merge " + std::to_string(rank) + ": '" +
                                           printable(token, 40) + "' is no token");
    }
    return found->second;
}

}  // namespace

void MergeTable::reserve(std::size_t count) {
    const std::size_t size = std::bit_ceil(2 * count + 2);
    slots_.assign(size, Slot{kEmptySlot, {}});
    shift_ = 64 - std::countr_zero(size);
}

std::size_t MergeTable::slot_of(std::uint64_t pair) const noexcept {
    constexpr std::uint64_t kGoldenRatio = 0x9E3779B97F4A7C15;  // Fibonacci hashing
    auto slot = static_cast<std::size_t>((pair ^ pair >> 29) * kGoldenRatio >> shift_);
    while (slots_[slot].pair != pair && slots_[slot].pair != kEmptySlot) {
        slot = (slot + 1) & (slots_.size() - 1);
    }
    return slot;
}

void MergeTable::set(std::int32_t left, std::int32_t right, Merge merge) {
    const auto pair = pair_of(left, right);
    slots_[slot_of(pair)] = {pair, merge};
}

const Merge* MergeTable::find(std::int32_t left, std::int32_t right) const noexcept {
    const auto& slot = slots_[slot_of(pair_of(left, right))];
    return slot.pair == kEmptySlot ? nullptr : &slot.merge;
}

ByteBpe::ByteBpe(const TokenizerData& data,
                 const std::unordered_map<std::string_view, std::int32_t>& ids) {
    for (std::size_t byte = 0; byte < 256; ++byte) {
        const auto found = ids.find(byte_alphabet()[byte]);
        byte_ids_[byte] = found == ids.end() ? kNoToken : found->second;
    }
    merges_.reserve(data.merges.size());
    for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
        const auto& [left, right] = data.merges[rank];
        const Merge merge{static_cast<std::uint32_t>(rank), id_of(ids, left + right, rank)};
        // NOTE: a pair that occurs twice keeps its last rank, as in the package `tokenizers`.
        merges_.set(id_of(ids, left, rank), id_of(ids, right, rank), merge);
    }
    if (!data.ignore_merges) return;
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        if (data.types[i] != TokenType::normal) continue;
        whole_words_.emplace(bytes_from_alphabet(data.tokens[i]), static_cast<std::int32_t>(i));
    }
}

/// Adds the merge of the symbol at `at` with the next one, where there is such a merge.
void ByteBpe::add_candidate(Scratch& scratch, std::int32_t at) const {
    if (at == kNone) return;
    const auto& left = scratch.symbols[static_cast<std::size_t>(at)];
    if (left.next == kNone) return;
    const auto right_id = scratch.symbols[static_cast<std::size_t>(left.next)].id;
    const auto* merge = merges_.find(left.id, right_id);
    if (merge == nullptr) return;
    const auto order = std::uint64_t{merge->rank} << 32 | static_cast<std::uint32_t>(at);
    scratch.heap.push_back({order, left.id, right_id});
}

void ByteBpe::encode_word(std::string_view word, Scratch& scratch,
                          std::vector<std::int32_t>& out) const {
    if (!whole_words_.empty()) {
        const auto whole = whole_words_.find(std::string(word));
        if (whole != whole_words_.end()) return out.push_back(whole->second);
    }
    auto& symbols = scratch.symbols;
    auto& heap = scratch.heap;
    symbols.clear();
    heap.clear();
    for (const char byte : word) {
        const auto id = byte_ids_[static_cast<std::uint8_t>(byte)];
        if (id == kNoToken) continue;
        const auto at = static_cast<std::int32_t>(symbols.size());
        symbols.push_back({id, at - 1, at + 1});
    }
    if (symbols.empty()) return;
    symbols.back().next = kNone;
    const auto count = static_cast<std::int32_t>(symbols.size());
    for (std::int32_t at = 0; at < count; ++at)
        add_candidate(scratch, at);
    std::make_heap(heap.begin(), heap.end(), comes_later);

    const auto add_to_heap = [&](std::int32_t at) {
        const std::size_t size_before = heap.size();
        add_candidate(scratch, at);
        if (heap.size() > size_before) std::push_heap(heap.begin(), heap.end(), comes_later);
    };
    // A symbol gives one candidate, each of fewer than `count` merges two more.
    std::int64_t n_steps = 0;
    while (!heap.empty()) {
        ETALON_ASSERT(++n_steps < 3 * std::int64_t{count});
        std::pop_heap(heap.begin(), heap.end(), comes_later);
        const Candidate best = heap.back();
        heap.pop_back();
        const auto at = static_cast<std::int32_t>(best.order & 0xFFFFFFFF);
        auto& left = symbols[static_cast<std::size_t>(at)];
        if (left.id != best.left || left.next == kNone) continue;
        auto& right = symbols[static_cast<std::size_t>(left.next)];
        if (right.id != best.right) continue;
        left.id = merges_.find(best.left, best.right)->id;
        right.id = kNoToken;
        left.next = right.next;
        if (left.next != kNone) symbols[static_cast<std::size_t>(left.next)].previous = at;
        add_to_heap(left.previous);
        add_to_heap(at);
    }
    for (std::int32_t at = 0; at != kNone; at = symbols[static_cast<std::size_t>(at)].next) {
        out.push_back(symbols[static_cast<std::size_t>(at)].id);
    }
}

}  // namespace etalon::text

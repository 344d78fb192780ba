// SPDX-License-Identifier: Apache-2.0
// Byte-level BPE: the merges of one word.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/tokenizer_data.h"

namespace etalon::text {

/// The merge of two neighbours: its rank (lower first) and the token that it makes.
struct Merge {
    std::uint32_t rank;
    std::int32_t id;
};

/// Merges by the pair of their ids: open addressing, at most half full.
class MergeTable {
  public:
    void reserve(std::size_t count);
    void set(std::int32_t left, std::int32_t right, Merge merge);
    const Merge* find(std::int32_t left, std::int32_t right) const noexcept;

  private:
    struct Slot {
        std::uint64_t pair;
        Merge merge;
    };
    std::size_t slot_of(std::uint64_t pair) const noexcept;

    std::vector<Slot> slots_;
    int shift_ = 0;
};

class ByteBpe {
  public:
    /// `ids` are the ids by text of `data`, which has passed check_tokenizer_data().
    /// Errors: invalid (a merge of, or to, what is no token).
    ByteBpe(const TokenizerData& data,
            const std::unordered_map<std::string_view, std::int32_t>& ids);

    /// Memory that encode_word reuses from word to word.
    struct Scratch {
        struct Symbol {
            std::int32_t id;  ///< kNoToken: it became part of the symbol before it
            std::int32_t previous;
            std::int32_t next;
        };
        struct Candidate {
            std::uint64_t order;  ///< rank · 2^32 + position: low first, so ties go to the left
            std::int32_t left;
            std::int32_t right;
        };
        std::vector<Symbol> symbols;
        std::vector<Candidate> heap;
    };

    /// Appends the tokens of a word (raw bytes). Always the merge of lowest rank next, among equal
    /// ones the leftmost: n log n for a word of n bytes. A byte without a token is left out.
    void encode_word(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& out) const;

  private:
    void add_candidate(Scratch& scratch, std::int32_t at) const;

    std::array<std::int32_t, 256> byte_ids_;
    MergeTable merges_;
    std::unordered_map<std::string, std::int32_t> whole_words_;  ///< filled for ignore_merges only
};

}  // namespace etalon::text

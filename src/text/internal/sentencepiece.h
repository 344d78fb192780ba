// SPDX-License-Identifier: Apache-2.0
// SentencePiece BPE: a whole text is one word, neighbours are merged by the score of what they
// make.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/internal/token_matcher.h"
#include "text/tokenizer_data.h"

namespace etalon::text {

class SentencepieceBpe {
  public:
    /// `data` has passed check_tokenizer_data() and ids_by_text(), and outlives the object.
    /// Errors: invalid (some byte tokens but not all, neither byte tokens nor an unknown token).
    explicit SentencepieceBpe(const TokenizerData& data);

    /// Appends the tokens of `text`, in which spaces already are U+2581. User-defined tokens are
    /// found first, longest first, and never merged; characters without a token become their
    /// bytes, or one unknown token for a run of them where the model has no byte tokens.
    void encode(std::string_view text, std::vector<std::int32_t>& out) const;

  private:
    struct Symbol {
        std::uint32_t begin;
        std::uint32_t size;  ///< 0: it became part of the symbol before it
        std::int32_t previous;
        std::int32_t next;
        bool frozen;  ///< user-defined
    };
    struct Candidate {
        float score;
        std::int32_t left;
        std::uint32_t size;  ///< bytes of both symbols together, to recognise what is outdated
    };
    /// How an unused piece was made, so that it can be taken apart again.
    struct Parts {
        std::string_view left;
        std::string_view right;
    };
    struct Work {
        std::string_view text;
        std::vector<Symbol> symbols;
        std::vector<Candidate> heap;
        std::unordered_map<std::int32_t, Parts> parts_of_unused;
    };

    static bool comes_later(const Candidate& a, const Candidate& b) noexcept;
    std::int32_t find(std::string_view piece) const;
    void split_characters(Work& work) const;
    void add_candidate(Work& work, std::int32_t left) const;
    void merge_all(Work& work) const;
    void put_piece(const Work& work, std::string_view piece, std::vector<std::int32_t>& out) const;
    void put_bytes(std::string_view piece, std::vector<std::int32_t>& out) const;

    const TokenizerData& data_;
    std::unordered_map<std::string_view, std::int32_t> pieces_;
    std::size_t piece_bytes_max_ = 0;
    TokenMatcher user_defined_;
    std::array<std::int32_t, 256> byte_ids_;
    std::int32_t unknown_ = kNoToken;
    bool byte_fallback_ = false;
};

}  // namespace etalon::text

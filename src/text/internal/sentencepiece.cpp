// SPDX-License-Identifier: Apache-2.0
// The algorithm of the library sentencepiece (bpe_model.cc): linked symbols, a heap of candidates
// by (score, leftmost), unused pieces taken apart at the end.
#include "text/internal/sentencepiece.h"

#include <algorithm>

#include "base/error.h"
#include "text/internal/unicode.h"
#include "text/internal/vocabulary.h"

namespace etalon::text {
namespace {

constexpr std::int32_t kNoSymbol = -1;

[[noreturn]] void refuse(const std::string& reason) {
    throw Error(ExitCode::invalid, "tokenizer tokens: " + reason);
}

}  // namespace

SentencepieceBpe::SentencepieceBpe(const TokenizerData& data) : data_(data) {
    byte_ids_.fill(kNoToken);
    for (std::size_t i = 0; i < data.tokens.size(); ++i) {
        const std::string& token = data.tokens[i];
        const auto id = static_cast<std::int32_t>(i);
        switch (data.types[i]) {
            case TokenType::control:
                break;
            case TokenType::unknown:
                unknown_ = id;
                break;
            case TokenType::byte: {
                const int byte = byte_of_token(token);
                if (byte < 0) refuse(std::to_string(i) + " is of type byte but not like <0x41>");
                byte_ids_[static_cast<std::size_t>(byte)] = id;
                break;
            }
            case TokenType::user_defined:
                user_defined_.add(token, id);
                [[fallthrough]];
            case TokenType::normal:
            case TokenType::unused:
                // Only an unused token repeats another (ids_by_text): then the other one counts.
                if (data.types[i] == TokenType::unused) {
                    pieces_.emplace(token, id);
                } else {
                    pieces_[token] = id;
                }
                piece_bytes_max_ = std::max(piece_bytes_max_, token.size());
        }
    }
    const auto missing = std::count(byte_ids_.begin(), byte_ids_.end(), kNoToken);
    if (missing != 0 && missing != 256)
        refuse(std::to_string(missing) + " byte tokens are missing");
    byte_fallback_ = missing == 0;
    if (!byte_fallback_ && unknown_ == kNoToken) refuse("neither bytes nor an unknown token");
}

bool SentencepieceBpe::comes_later(const Candidate& a, const Candidate& b) noexcept {
    return a.score < b.score || (a.score == b.score && a.left > b.left);
}

std::int32_t SentencepieceBpe::find(std::string_view piece) const {
    if (piece.size() > piece_bytes_max_) return kNoToken;
    const auto found = pieces_.find(piece);
    return found == pieces_.end() ? kNoToken : found->second;
}

void SentencepieceBpe::split_characters(Work& work) const {
    const std::string_view text = work.text;
    for (std::size_t at = 0; at < text.size();) {
        const auto match = user_defined_.longest_at(text, at);
        const bool frozen = match.id != kNoToken;
        const auto step = utf8_at(text, at);
        const std::uint32_t size =
            frozen ? match.size : (step.state == Utf8::whole ? step.size : std::uint32_t{1});
        const auto index = static_cast<std::int32_t>(work.symbols.size());
        work.symbols.push_back(
            {static_cast<std::uint32_t>(at), size, index - 1, index + 1, frozen});
        at += size;
    }
    work.symbols.back().next = kNoSymbol;
}

/// Adds the merge of symbol `left` with the next one, where it makes a piece.
void SentencepieceBpe::add_candidate(Work& work, std::int32_t left) const {
    if (left == kNoSymbol) return;
    const auto& first = work.symbols[static_cast<std::size_t>(left)];
    if (first.next == kNoSymbol) return;
    const auto& second = work.symbols[static_cast<std::size_t>(first.next)];
    if (first.frozen || second.frozen) return;
    const std::uint32_t size = first.size + second.size;
    const auto id = find(work.text.substr(first.begin, size));
    if (id == kNoToken) return;
    const auto i = static_cast<std::size_t>(id);
    work.heap.push_back({data_.scores[i], left, size});
    if (data_.types[i] == TokenType::unused) {
        work.parts_of_unused[id] = {work.text.substr(first.begin, first.size),
                                    work.text.substr(second.begin, second.size)};
    }
}

void SentencepieceBpe::merge_all(Work& work) const {
    auto& symbols = work.symbols;
    auto& heap = work.heap;
    const auto count = static_cast<std::int32_t>(symbols.size());
    for (std::int32_t left = 0; left < count; ++left)
        add_candidate(work, left);
    std::make_heap(heap.begin(), heap.end(), comes_later);
    const auto add_to_heap = [&](std::int32_t left) {
        const std::size_t size_before = heap.size();
        add_candidate(work, left);
        if (heap.size() > size_before) std::push_heap(heap.begin(), heap.end(), comes_later);
    };
    // A symbol gives one candidate, each of fewer than `count` merges two more.
    std::int64_t n_steps = 0;
    while (!heap.empty()) {
        ETALON_ASSERT(++n_steps < 3 * std::int64_t{count});
        std::pop_heap(heap.begin(), heap.end(), comes_later);
        const Candidate best = heap.back();
        heap.pop_back();
        auto& left = symbols[static_cast<std::size_t>(best.left)];
        if (left.size == 0 || left.next == kNoSymbol) continue;
        auto& right = symbols[static_cast<std::size_t>(left.next)];
        if (left.size + right.size != best.size) continue;
        left.size = best.size;
        right.size = 0;
        left.next = right.next;
        if (left.next != kNoSymbol)
            symbols[static_cast<std::size_t>(left.next)].previous = best.left;
        add_to_heap(left.previous);
        add_to_heap(best.left);
    }
}

void SentencepieceBpe::put_bytes(std::string_view piece, std::vector<std::int32_t>& out) const {
    if (byte_fallback_) {
        for (const char byte : piece)
            out.push_back(byte_ids_[static_cast<std::uint8_t>(byte)]);
    } else if (out.empty() || out.back() != unknown_) {
        out.push_back(unknown_);
    }
}

/// Puts a piece; an unused one is replaced by the parts that made it. A loop over a stack of our
/// own: the depth comes from the file.
void SentencepieceBpe::put_piece(const Work& work, std::string_view piece,
                                 std::vector<std::int32_t>& out) const {
    if (work.parts_of_unused.empty()) {
        const auto id = find(piece);
        return id == kNoToken ? put_bytes(piece, out) : out.push_back(id);
    }
    std::vector<std::string_view> todo{piece};
    while (!todo.empty()) {
        const std::string_view next = todo.back();
        todo.pop_back();
        const auto id = find(next);
        if (id == kNoToken) {
            put_bytes(next, out);
            continue;
        }
        const auto parts = work.parts_of_unused.find(id);
        if (parts == work.parts_of_unused.end()) {
            out.push_back(id);
            continue;
        }
        todo.push_back(parts->second.right);
        todo.push_back(parts->second.left);
    }
}

void SentencepieceBpe::encode(std::string_view text, std::vector<std::int32_t>& out) const {
    if (text.empty()) return;
    Work work;
    work.text = text;
    work.symbols.reserve(text.size());
    split_characters(work);
    merge_all(work);
    for (std::int32_t at = 0; at != kNoSymbol;) {
        const auto& symbol = work.symbols[static_cast<std::size_t>(at)];
        put_piece(work, text.substr(symbol.begin, symbol.size), out);
        at = symbol.next;
    }
}

}  // namespace etalon::text

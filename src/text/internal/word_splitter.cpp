// SPDX-License-Identifier: Apache-2.0
// The five pre-tokenizers. Above each stands the expression that it obeys; its alternatives are
// tried in the same order.
#include "text/internal/word_splitter.h"

#include <cstddef>

#include "base/error.h"
#include "text/internal/limits.h"
#include "text/internal/unicode.h"

namespace etalon::text {
namespace {

struct Character {
    char32_t value;  ///< 0 for a byte that is not UTF-8: compared with printable ASCII only
    std::uint32_t begin;
    std::uint8_t classes;
};

std::vector<Character> characters_of(std::string_view text) {
    std::vector<Character> out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const auto step = utf8_at(text, at);
        const auto begin = static_cast<std::uint32_t>(at);
        if (step.state == Utf8::whole) {
            out.push_back({step.value, begin, classes_of(step.value)});
            at += step.size;
        } else {
            out.push_back({0, begin, 0});
            ++at;
        }
    }
    return out;
}

/// Matches one word at a position; positions count characters. A position is never past `end_`.
class WordMatcher {
  public:
    WordMatcher(const std::vector<Character>& characters, std::size_t end)
        : characters_(characters), end_(end) {}

    void set_end(std::size_t end) { end_ = end; }
    std::uint64_t looks() const { return looks_; }
    std::size_t gpt2(std::size_t at) const;
    std::size_t llama3(std::size_t at, std::size_t numbers_max) const;
    std::size_t tekken(std::size_t at) const;

  private:
    static constexpr std::size_t kNoMatch = 0;  // a match ends after its begin, so never at 0
    static constexpr std::uint8_t kNotOther = kLetter | kNumber | kSpace;

    const Character& look(std::size_t at) const {
        ++looks_;
        return characters_[at];
    }
    bool is(std::size_t at, std::uint8_t classes) const {
        return at < end_ && (look(at).classes & classes) != 0;
    }
    bool is_other(std::size_t at) const { return at < end_ && (look(at).classes & kNotOther) == 0; }
    bool is_char(std::size_t at, char32_t value) const {
        return at < end_ && look(at).value == value;
    }
    std::size_t run(std::size_t at, std::uint8_t classes) const {
        while (is(at, classes))
            ++at;
        return at;
    }
    std::size_t other_run(std::size_t at) const {
        while (is_other(at))
            ++at;
        return at;
    }

    std::size_t contraction(std::size_t at, bool any_case) const;
    std::size_t letters_after_one(std::size_t at) const;
    std::size_t cased_letters(std::size_t at) const;
    std::size_t cased_letters_from(std::size_t at, std::size_t letters) const;
    std::size_t numbers(std::size_t at, std::size_t numbers_max) const;
    std::size_t punctuation(std::size_t at, bool slashes) const;
    std::size_t spaces(std::size_t at) const;
    std::size_t newlines_or_spaces(std::size_t at) const;

    const std::vector<Character>& characters_;
    std::size_t end_;
    mutable std::uint64_t looks_ = 0;
};

/// 's|'t|'re|'ve|'m|'ll|'d, or the same in (?i: ), where U+017F (long s) is an s as well.
std::size_t WordMatcher::contraction(std::size_t at, bool any_case) const {
    if (!is_char(at, '\'')) return kNoMatch;
    const auto letter = [&](std::size_t i) -> char32_t {
        if (i >= end_) return 0;
        const char32_t c = look(i).value;
        if (any_case && c == 0x17F) return 's';
        return any_case && c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c;
    };
    const char32_t first = letter(at + 1);
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 2;
    const char32_t second = letter(at + 2);
    const bool two =
        ((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l');
    return two ? at + 3 : kNoMatch;
}

/// \s+(?!\S)|\s+ : a run leaves its last space to the word that follows.
std::size_t WordMatcher::spaces(std::size_t at) const {
    const std::size_t run_end = run(at, kSpace);
    return run_end == end_ || run_end == at + 1 ? run_end : run_end - 1;
}

/// \s*[\r\n]+|\s+(?!\S)|\s+ : to the last newline of the run, when it has one.
std::size_t WordMatcher::newlines_or_spaces(std::size_t at) const {
    std::size_t after_newline = kNoMatch;
    for (std::size_t i = at; is(i, kSpace); ++i) {
        if (is(i, kNewline)) after_newline = i + 1;
    }
    return after_newline != kNoMatch ? after_newline : spaces(at);
}

/// [^\r\n\p{L}\p{N}]?\p{L}+
std::size_t WordMatcher::letters_after_one(std::size_t at) const {
    const bool one = !is(at, kNewline | kLetter | kNumber) && is(at + 1, kLetter);
    const std::size_t letters = one ? at + 1 : at;
    return is(letters, kLetter) ? run(letters, kLetter) : kNoMatch;
}

/// \p{N}{1,numbers_max}
std::size_t WordMatcher::numbers(std::size_t at, std::size_t numbers_max) const {
    std::size_t count = 0;
    while (count < numbers_max && is(at + count, kNumber))
        ++count;
    return count == 0 ? kNoMatch : at + count;
}

///  ?[^\s\p{L}\p{N}]+[\r\n]*, or [\r\n/]* at the end.
std::size_t WordMatcher::punctuation(std::size_t at, bool slashes) const {
    const std::size_t begin = is_char(at, ' ') ? at + 1 : at;
    if (!is_other(begin)) return kNoMatch;
    std::size_t word_end = other_run(begin);
    while (is(word_end, kNewline) || (slashes && is_char(word_end, '/')))
        ++word_end;
    return word_end;
}

/// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t WordMatcher::gpt2(std::size_t at) const {
    if (const auto word_end = contraction(at, false)) return word_end;
    const std::size_t begin = is_char(at, ' ') ? at + 1 : at;
    if (is(begin, kLetter)) return run(begin, kLetter);
    if (is(begin, kNumber)) return run(begin, kNumber);
    if (is_other(begin)) return other_run(begin);
    return spaces(at);
}

/// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|
///  ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+      (qwen2: \p{N})
std::size_t WordMatcher::llama3(std::size_t at, std::size_t numbers_max) const {
    if (const auto word_end = contraction(at, true)) return word_end;
    if (const auto word_end = letters_after_one(at)) return word_end;
    if (const auto word_end = numbers(at, numbers_max)) return word_end;
    if (const auto word_end = punctuation(at, false)) return word_end;
    return newlines_or_spaces(at);
}

/// With U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L = [\p{Ll}\p{Lm}\p{Lo}\p{M}], letters already past
/// the optional character: what U*L+ matches. U* takes its whole run; when no L follows, it gives
/// back up to the last character that is both, which is then all that L+ can take.
std::size_t WordMatcher::cased_letters_from(std::size_t at, std::size_t letters) const {
    std::size_t after_both = kNoMatch;
    std::size_t i = letters;
    for (; is(i, kUpperOrBoth); ++i) {
        if (is(i, kLowerOrBoth)) after_both = i + 1;
    }
    if (is(i, kLowerOrBoth)) return run(i, kLowerOrBoth);
    if (after_both != kNoMatch) return after_both;
    // The character before may itself be a mark that U* and L+ can take.
    return letters > at && is(at, kLowerOrBoth) ? letters : kNoMatch;
}

/// [^\r\n\p{L}\p{N}]?U*L+|[^\r\n\p{L}\p{N}]?U+L*
std::size_t WordMatcher::cased_letters(std::size_t at) const {
    const bool one = !is(at, kNewline | kLetter | kNumber);
    const std::size_t letters = one ? at + 1 : at;
    if (const auto word_end = cased_letters_from(at, letters)) return word_end;
    // No L stands here, else the first alternative would have matched: U+ alone.
    return is(letters, kUpperOrBoth) ? run(letters, kUpperOrBoth) : kNoMatch;
}

/// [^\r\n\p{L}\p{N}]?U*L+|[^\r\n\p{L}\p{N}]?U+L*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|
/// \s*[\r\n]+|\s+(?!\S)|\s+
std::size_t WordMatcher::tekken(std::size_t at) const {
    if (const auto word_end = cased_letters(at)) return word_end;
    if (const auto word_end = numbers(at, 1)) return word_end;
    if (const auto word_end = punctuation(at, true)) return word_end;
    return newlines_or_spaces(at);
}

/// Numbers stand alone, one character a word; what lies between them is split as gpt2 does.
std::size_t smollm_word(WordMatcher& matcher, const std::vector<Character>& characters,
                        std::size_t at, std::size_t& piece_end) {
    if ((characters[at].classes & kNumber) != 0) return at + 1;
    if (at >= piece_end) {
        piece_end = at;
        while (piece_end < characters.size() && (characters[piece_end].classes & kNumber) == 0) {
            ++piece_end;
        }
        matcher.set_end(piece_end);
    }
    return matcher.gpt2(at);
}

}  // namespace

std::vector<std::uint32_t> split_words(Pretokenizer pretokenizer, std::string_view text,
                                       std::uint64_t* looks) {
    ETALON_ASSERT(text.size() <= 3 * (kTextBytesMax + 1));
    const auto characters = characters_of(text);
    WordMatcher matcher(characters, characters.size());
    std::vector<std::uint32_t> ends;
    std::size_t piece_end = 0;
    for (std::size_t at = 0; at < characters.size();) {
        std::size_t word_end = at;
        switch (pretokenizer) {
            case Pretokenizer::gpt2:
                word_end = matcher.gpt2(at);
                break;
            case Pretokenizer::llama3:
                word_end = matcher.llama3(at, 3);
                break;
            case Pretokenizer::qwen2:
                word_end = matcher.llama3(at, 1);
                break;
            case Pretokenizer::smollm:
                word_end = smollm_word(matcher, characters, at, piece_end);
                break;
            case Pretokenizer::tekken:
                word_end = matcher.tekken(at);
                break;
        }
        ETALON_ASSERT(word_end > at);
        ends.push_back(word_end < characters.size() ? characters[word_end].begin
                                                    : static_cast<std::uint32_t>(text.size()));
        at = word_end;
    }
    if (looks != nullptr) *looks += matcher.looks();
    return ends;
}

}  // namespace etalon::text

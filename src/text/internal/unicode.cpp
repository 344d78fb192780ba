// SPDX-License-Identifier: Apache-2.0
// UTF-8 decoding by hand; categories, combining classes and compositions from ICU.
#include "text/internal/unicode.h"

#include <algorithm>
#include <array>
#include <span>
#include <unicode/uchar.h>
#include <unicode/unorm2.h>
#include <vector>

#include "base/error.h"

namespace etalon::text {
namespace {

constexpr std::uint8_t kUnicodeMajor = 15;
constexpr char32_t kCodePointMax = 0x10FFFF;

/// How many bytes follow a lead byte and in which range the first of them lies, by Table 3-7 of the
/// Unicode Standard: it excludes surrogates, overlong forms and values above U+10FFFF.
struct LeadByte {
    int following;
    std::uint8_t second_min;
    std::uint8_t second_max;
};

LeadByte lead_byte(std::uint8_t byte) noexcept {
    if (byte >= 0xC2 && byte <= 0xDF) return {1, 0x80, 0xBF};
    if (byte == 0xE0) return {2, 0xA0, 0xBF};
    if (byte == 0xED) return {2, 0x80, 0x9F};
    if (byte >= 0xE1 && byte <= 0xEF) return {2, 0x80, 0xBF};
    if (byte == 0xF0) return {3, 0x90, 0xBF};
    if (byte >= 0xF1 && byte <= 0xF3) return {3, 0x80, 0xBF};
    if (byte == 0xF4) return {3, 0x80, 0x8F};
    return {0, 0, 0};
}

std::uint8_t classes_by_category(int category) noexcept {
    switch (category) {
        case U_UPPERCASE_LETTER:
        case U_TITLECASE_LETTER:
            return kLetter | kUpperOrBoth;
        case U_LOWERCASE_LETTER:
            return kLetter | kLowerOrBoth;
        case U_MODIFIER_LETTER:
        case U_OTHER_LETTER:
            return kLetter | kUpperOrBoth | kLowerOrBoth;
        case U_NON_SPACING_MARK:
        case U_ENCLOSING_MARK:
        case U_COMBINING_SPACING_MARK:
            return kUpperOrBoth | kLowerOrBoth;
        case U_DECIMAL_DIGIT_NUMBER:
        case U_LETTER_NUMBER:
        case U_OTHER_NUMBER:
            return kNumber;
        default:
            return 0;
    }
}

std::uint8_t classes_from_icu(char32_t value) noexcept {
    const auto character = static_cast<UChar32>(value);
    if (u_isUWhiteSpace(character)) {
        return value == '\n' || value == '\r' ? kSpace | kNewline : kSpace;
    }
    UVersionInfo age;
    u_charAge(character, age);
    if (age[0] > kUnicodeMajor || (age[0] == kUnicodeMajor && age[1] > 0)) return 0;
    return classes_by_category(u_charType(character));
}

/// A character and its canonical combining class; bytes that are not UTF-8 lie above
/// kCodePointMax and combine with nothing.
struct Combining {
    char32_t value;
    std::uint8_t combining_class;
};

const UNormalizer2* nfc_data() {
    UErrorCode status = U_ZERO_ERROR;
    const UNormalizer2* data = unorm2_getNFCInstance(&status);
    if (U_FAILURE(status)) throw Error(ExitCode::failure, "Unicode data of ICU are missing");
    return data;
}

void append_decomposed(const UNormalizer2* nfc, char32_t value, std::vector<Combining>& out) {
    std::array<UChar, 32> buffer;  // canonical decompositions have at most 4 UTF-16 units
    UErrorCode status = U_ZERO_ERROR;
    const auto length = unorm2_getDecomposition(nfc, static_cast<UChar32>(value), buffer.data(),
                                                static_cast<int>(buffer.size()), &status);
    if (U_FAILURE(status) || length < 0) {
        out.push_back({value, u_getCombiningClass(static_cast<UChar32>(value))});
        return;
    }
    for (int i = 0; i < length;) {
        UChar32 part = 0;
        U16_NEXT(buffer.data(), i, length, part);
        out.push_back({static_cast<char32_t>(part), u_getCombiningClass(part)});
    }
}

std::vector<Combining> decomposed(const UNormalizer2* nfc, std::string_view text) {
    std::vector<Combining> out;
    out.reserve(text.size());
    for (std::size_t at = 0; at < text.size();) {
        const auto step = utf8_at(text, at);
        if (step.state == Utf8::whole) {
            append_decomposed(nfc, step.value, out);
            at += step.size;
        } else {
            out.push_back({kCodePointMax + 1 + static_cast<std::uint8_t>(text[at]), 0});
            ++at;
        }
    }
    return out;
}

void sort_combining_runs(std::vector<Combining>& characters) {
    const auto is_starter = [](const Combining& c) { return c.combining_class == 0; };
    auto run = characters.begin();
    while (run != characters.end()) {
        if (is_starter(*run)) {
            ++run;
            continue;
        }
        const auto run_end = std::find_if(run, characters.end(), is_starter);
        std::stable_sort(run, run_end, [](const Combining& a, const Combining& b) {
            return a.combining_class < b.combining_class;
        });
        run = run_end;
    }
}

/// Joins each character to the last starter before it, where a composition exists and nothing of
/// the same or a higher class stands between. Works in place; returns how many are left.
std::size_t compose(const UNormalizer2* nfc, std::span<Combining> characters) {
    std::size_t kept = 0;
    std::size_t starter = characters.size();  // none yet
    for (const Combining c : characters) {
        const bool has_starter = starter < kept;
        const bool adjacent = has_starter && starter + 1 == kept;
        const bool reaches = has_starter && c.value <= kCodePointMax &&
                             (adjacent || characters[kept - 1].combining_class < c.combining_class);
        if (reaches && characters[starter].value <= kCodePointMax) {
            const auto joined =
                unorm2_composePair(nfc, static_cast<UChar32>(characters[starter].value),
                                   static_cast<UChar32>(c.value));
            if (joined >= 0) {
                characters[starter].value = static_cast<char32_t>(joined);
                continue;
            }
        }
        if (c.combining_class == 0) starter = kept;
        characters[kept++] = c;
    }
    return kept;
}

}  // namespace

Utf8Step utf8_at(std::string_view text, std::size_t at) noexcept {
    const auto first = static_cast<std::uint8_t>(text[at]);
    if (first < 0x80) return {Utf8::whole, 1, first};
    const auto lead = lead_byte(first);
    if (lead.following == 0) return {Utf8::wrong, 1, 0};
    char32_t value = first & (0x3F >> lead.following);
    for (int i = 1; i <= lead.following; ++i) {
        const auto size = static_cast<std::uint8_t>(i);
        if (at + static_cast<std::size_t>(i) >= text.size()) return {Utf8::incomplete, size, 0};
        const auto byte = static_cast<std::uint8_t>(text[at + static_cast<std::size_t>(i)]);
        const int byte_min = i == 1 ? lead.second_min : 0x80;
        const int byte_max = i == 1 ? lead.second_max : 0xBF;
        if (byte < byte_min || byte > byte_max) return {Utf8::wrong, size, 0};
        value = value << 6 | (byte & 0x3F);
    }
    return {Utf8::whole, static_cast<std::uint8_t>(lead.following + 1), value};
}

bool is_utf8(std::string_view text) noexcept {
    for (std::size_t at = 0; at < text.size();) {
        const auto step = utf8_at(text, at);
        if (step.state != Utf8::whole) return false;
        at += step.size;
    }
    return true;
}

void append_utf8(std::string& out, char32_t value) {
    const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(byte)); };
    if (value < 0x80) {
        put(value);
    } else if (value < 0x800) {
        put(0xC0 | value >> 6);
        put(0x80 | (value & 0x3F));
    } else if (value < 0x10000) {
        put(0xE0 | value >> 12);
        put(0x80 | (value >> 6 & 0x3F));
        put(0x80 | (value & 0x3F));
    } else {
        put(0xF0 | value >> 18);
        put(0x80 | (value >> 12 & 0x3F));
        put(0x80 | (value >> 6 & 0x3F));
        put(0x80 | (value & 0x3F));
    }
}

std::uint8_t classes_of(char32_t value) noexcept {
    static const auto ascii = [] {
        std::array<std::uint8_t, 128> table;
        for (char32_t c = 0; c < table.size(); ++c)
            table[c] = classes_from_icu(c);
        return table;
    }();
    return value < ascii.size() ? ascii[value] : classes_from_icu(value);
}

std::string to_nfc(std::string_view text) {
    const auto is_ascii = [](char c) { return static_cast<std::uint8_t>(c) < 0x80; };
    if (std::all_of(text.begin(), text.end(), is_ascii)) return std::string(text);
    const auto* nfc = nfc_data();
    auto characters = decomposed(nfc, text);
    sort_combining_runs(characters);
    characters.resize(compose(nfc, characters));
    std::string out;
    out.reserve(text.size());
    for (const auto& c : characters) {
        if (c.value > kCodePointMax) {
            out.push_back(static_cast<char>(c.value - kCodePointMax - 1));
        } else {
            append_utf8(out, c.value);
        }
    }
    return out;
}

}  // namespace etalon::text

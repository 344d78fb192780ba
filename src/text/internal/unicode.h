// SPDX-License-Identifier: Apache-2.0
// UTF-8, classes of characters and normalisation form C. Characters newer than Unicode 15.0 count
// as unassigned, so that a later ICU does not change the tokens of a text.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace etalon::text {

enum class Utf8 : std::uint8_t {
    whole,       ///< a character
    incomplete,  ///< the text ends inside of what can still become a character
    wrong,       ///< can never become a character
};

/// What stands at text[at]. `size` counts the bytes of the character; of an incomplete or wrong
/// one, those that belong together and are shown as one U+FFFD.
struct Utf8Step {
    Utf8 state;
    std::uint8_t size;
    char32_t value;
};
Utf8Step utf8_at(std::string_view text, std::size_t at) noexcept;

bool is_utf8(std::string_view text) noexcept;
void append_utf8(std::string& out, char32_t value);

/// Bits of classes_of().
enum CharacterClass : std::uint8_t {
    kLetter = 1,        ///< \p{L}
    kNumber = 2,        ///< \p{N}
    kSpace = 4,         ///< \s: White_Space
    kNewline = 8,       ///< \r or \n, a space as well
    kUpperOrBoth = 16,  ///< \p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}
    kLowerOrBoth = 32,  ///< \p{Ll}\p{Lm}\p{Lo}\p{M}
};
std::uint8_t classes_of(char32_t value) noexcept;

/// Normalisation form C in linear time (ICU's own is quadratic in runs of combining marks). Bytes
/// that are not UTF-8 are kept.
std::string to_nfc(std::string_view text);

}  // namespace etalon::text

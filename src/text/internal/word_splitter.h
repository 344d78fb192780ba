// SPDX-License-Identifier: Apache-2.0
// Pre-tokenizers: where byte-level BPE cuts a text into words before it merges. Each is a regular
// expression in its origin; here it is a matcher by hand that looks at each character a few times,
// because engines that backtrack can be made to take quadratic time.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/tokenizer_data.h"

namespace etalon::text {

/// The end offsets of the words of `text`, ascending; the last is text.size(). A byte that is not
/// UTF-8 counts as a character that is no letter, number or space.
/// Example, gpt2: "it's  2" gives {2, 4, 5, 7}: "it", "'s", " ", " 2".
/// `text` has at most kTextBytesMax bytes. Adds to `looks`, when it is given, how often a character
/// was looked at: a test holds it against the length of the text.
std::vector<std::uint32_t> split_words(Pretokenizer pretokenizer, std::string_view text,
                                       std::uint64_t* looks = nullptr);

}  // namespace etalon::text
